//! Tables of the `write_response` module: whole bytes in, whole bytes or facts out.
