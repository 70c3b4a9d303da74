from .command import cli as cli, main as main
