//! What must stop a connector.
