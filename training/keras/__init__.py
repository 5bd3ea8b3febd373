"""The part of training that is TensorFlow and Keras: augmentation, network, fit, conversion."""
