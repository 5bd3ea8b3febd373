"""What learns: from two folders of photos to a model bundle. The only place that imports TensorFlow."""
