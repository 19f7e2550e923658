//! Tables of the `fields` module: whole bytes in, whole bytes or facts out.
