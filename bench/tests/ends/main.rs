//! Both ends of the load, as programs with real sockets between them and real peers beside them:
//! curl, openssl, nginx, and servers that answer wrongly on purpose.

mod programs;
mod counts;
mod answers;
mod faults;
mod tls;
mod streams;
mod usage;
mod stall;
mod staged;
mod upstream;
