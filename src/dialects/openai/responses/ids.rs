//! The ids of responses and items. They cannot be guessed, and hold the name of the instance that has stored
//! them, if it has one.

/// Returns the beginning of an id: its kind, such as `resp`, and the instance, if it has a name.
pub fn prefix(kind: &str, instance: Option<&str>) -> String {
    match instance {
        Some(instance) => format!("{kind}_{instance}_"),
        None => format!("{kind}_"),
    }
}

/// Returns a new id.
pub fn new(kind: &str, instance: Option<&str>) -> String {
    format!("{}{}", prefix(kind, instance), uuid::Uuid::new_v4().simple())
}

/// Returns the instance that an id names; `None` if it names none.
pub fn instance_of(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('_')?;
    rest.split_once('_').map(|(instance, _)| instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_instance_if_that_has_a_name() {
        assert_eq!(instance_of(&new("resp", Some("8001"))), Some("8001"));
        assert_eq!(instance_of(&new("resp", None)), None);
        assert_ne!(new("msg", None), new("msg", None));
    }
}
