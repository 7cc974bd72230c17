"""What `procession.joblib` and `procession.torch` are made of. These modules import the libraries that they serve."""
