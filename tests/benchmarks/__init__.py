"""Measures MiraiExecutor and its peers in one run, round by round: ``tox -e bench``."""
