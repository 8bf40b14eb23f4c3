"""One row per image: the conditions under which its views are generated, and where each came from."""
