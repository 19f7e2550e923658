//! Tables of the `reply` module: whole bytes in, whole bytes or facts out.
