from .api import predict as predict, score as score

__version__: str
