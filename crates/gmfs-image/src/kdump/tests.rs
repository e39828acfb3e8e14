mod build;
mod captured;
mod hostile;
mod model;

use super::*;
