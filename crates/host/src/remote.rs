//! stub
pub struct RemoteHub;
