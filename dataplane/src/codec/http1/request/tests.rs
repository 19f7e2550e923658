//! Tables of the `request` module: whole bytes in, whole bytes or facts out.
