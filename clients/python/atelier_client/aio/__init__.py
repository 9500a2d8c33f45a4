"""The asynchronous client, made from the synchronous one."""
