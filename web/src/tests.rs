//! What must hold whatever a page or an answer is about: who gets in, how, for how long, and what a form needs.

mod enrolling;
mod logging_in;
mod passkeys;
mod sessions;
mod stepping_up;
mod tokens;
mod walk;
