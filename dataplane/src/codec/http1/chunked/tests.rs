//! Tables of the `chunked` module: whole bytes in, whole bytes or facts out.
