"""How an executor comes by daemons that are not just started: launchers, addresses, forks."""
