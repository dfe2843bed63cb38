//! The attributes of dalsegno.
