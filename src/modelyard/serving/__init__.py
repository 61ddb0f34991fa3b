"""One request, from arrival to answer: guards, the worker process around a release, and who gets the traffic."""
