//! The model as a whole, and the queue; the small modules have their own tests.

mod levels;
mod model;
