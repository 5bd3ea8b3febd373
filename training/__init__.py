"""What learns: two folders of photos in, a bundle out. The only place that imports TensorFlow."""
