//! The cause of a failed request, below the layers that only repeat the failure.

use std::{error::Error, fmt, io};

use super::tls_error;

/// Returns the innermost error of type `T` in the chain. `io::Error` hides the error that it wraps
/// from `source()`, so this searches inside.
#[must_use]
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let below = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => find::<T>(inner),
        None => error.source().and_then(find::<T>),
    };
    below.or_else(|| error.downcast_ref())
}

/// What made a request fail, for people.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tls) = find::<rustls::Error>(self.0) {
            return write!(f, "TLS: {}", tls_error::explain(tls));
        }
        let last = std::iter::successors(Some(self.0), |error| (*error).source()).last();
        fmt::Display::fmt(last.unwrap_or(self.0), f)
    }
}

/// Returns the innermost cause; the outer ones only repeat the URL. One of TLS says what to do.
#[must_use]
pub fn innermost<'a>(error: &'a (dyn Error + 'static)) -> Cause<'a> {
    Cause(error)
}

/// Returns an error's text without ` (os error 28)`.
#[must_use]
pub fn plain<E: fmt::Display + ?Sized>(error: &E) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_lose_their_number() {
        assert_eq!(plain(&io::Error::from_raw_os_error(28)), "No space left on device");
        assert_eq!(plain(&io::Error::other("odd")), "odd");
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let inner = rustls::Error::DecryptError;
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(find::<rustls::Error>(&outer), Some(&inner));
        assert_eq!(find::<fmt::Error>(&outer), None);
    }
}
