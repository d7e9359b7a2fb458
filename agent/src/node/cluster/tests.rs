//! The whole course of events against a fake PID 1 over a socket pair, a machine that notes what
//! is done to it, and a server that speaks TLS like k3s's.

mod api;
mod course;
mod http;
mod pid1;
mod standing;
mod waiting;
