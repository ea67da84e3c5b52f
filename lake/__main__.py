"""`python -m lake`: fetch the Delta jars once, so that sessions which start together find them in place."""

from lake.sessions import require_java, resolve_jars

if __name__ == "__main__":
    require_java()
    resolve_jars()
