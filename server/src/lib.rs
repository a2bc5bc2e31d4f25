//! A member of an etcd cluster as a library.
