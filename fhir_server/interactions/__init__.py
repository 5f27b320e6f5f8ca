"""The interactions of the RESTful API (R4 3.1.0), one a file."""
