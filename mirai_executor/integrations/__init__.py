"""Where other libraries meet this package; each module is imported by those who use that library.

``joblib`` is a backend for joblib, and with it for scikit-learn.
"""
