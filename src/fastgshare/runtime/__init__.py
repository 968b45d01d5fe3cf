"""What runs inside an instance: a handler, its models, and the connection to the cluster that started it.

Handlers are written against `fastgshare.runtime.handlers`.
"""
