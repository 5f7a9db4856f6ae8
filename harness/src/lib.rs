//! Client library for remote executors, and the execctl command line.
