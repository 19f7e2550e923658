//! Tables of the `write_request` module: whole bytes in, whole bytes or facts out.
