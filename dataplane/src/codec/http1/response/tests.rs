//! Tables of the `response` module: whole bytes in, whole bytes or facts out.
