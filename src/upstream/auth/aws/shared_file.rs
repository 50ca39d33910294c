//! The shared credentials file of AWS: keys in sections.

use super::AwsKeys;
use crate::util::secret::Secret;

/// Returns the keys of a section.
///
/// # Errors
/// Why there are none. The message holds nothing of the file but the name of the section.
pub(super) fn section(text: &str, name: &str) -> Result<AwsKeys, String> {
    let mut is_there = false;
    let mut is_inside = false;
    let mut found: [Option<&str>; 3] = [None; 3];
    let mut asks_for_role = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            // The configuration file writes `profile x`, the credentials file `x`.
            let header = header.trim();
            is_inside = header.strip_prefix("profile ").unwrap_or(header).trim() == name;
            is_there |= is_inside;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_inside) else { continue };
        let value = Some(value.trim()).filter(|value| !value.is_empty());
        match key.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => found[0] = value,
            "aws_secret_access_key" => found[1] = value,
            "aws_session_token" => found[2] = value,
            "role_arn" | "credential_process" | "sso_session" | "sso_start_url" => asks_for_role = true,
            _ => {}
        }
    }
    let [id, secret, session] = found.map(|value| value.map(Secret::new));
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(AwsKeys { id, secret, session }),
        _ if !is_there => Err(format!("it has no section `{name}`")),
        _ if asks_for_role => {
            Err(format!("its section `{name}` names a role, a process or a sign-on, and no keys"))
        }
        _ => Err(format!("its section `{name}` has not both aws_access_key_id and aws_secret_access_key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_keys_or_a_reason() {
        let text = "# mine\n[default]\naws_access_key_id = A1\naws_secret_access_key=s=1\n\n\
                    [profile other]\nAWS_ACCESS_KEY_ID=A2\naws_secret_access_key = s2\naws_session_token = t2\n\
                    [ role ]\nrole_arn = arn\nsource_profile = default\n[half]\naws_access_key_id = A3\n";
        let keys = |id, secret, session: Option<&str>| {
            Ok(AwsKeys {
                id: Secret::new(id),
                secret: Secret::new(secret),
                session: session.map(Secret::new),
            })
        };
        assert_eq!(section(text, "default"), keys("A1", "s=1", None));
        assert_eq!(section(text, "other"), keys("A2", "s2", Some("t2")));
        for (name, reason) in
            [("role", "names a role"), ("half", "has not both"), ("none", "no section `none`")]
        {
            assert!(section(text, name).unwrap_err().contains(reason), "{name}");
        }
        assert!(section("", "default").is_err());
    }
}
