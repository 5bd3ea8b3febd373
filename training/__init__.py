"""Training: two folders of photos in, a bundle out. Only `keras` imports TensorFlow."""
