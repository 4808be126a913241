//! Numbers of 128 bits as JSON has them: hexadecimal texts. In postcard they are numbers.

/// 32 hexadecimal digits.
pub(super) mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(in crate::debug) fn serialize<S: Serializer>(
        number: &u128,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            format!("{number:032x}").serialize(to)
        } else {
            number.serialize(to)
        }
    }

    pub(in crate::debug) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<u128, D::Error> {
        if !from.is_human_readable() {
            return u128::deserialize(from);
        }
        let text = String::deserialize(from)?;
        let number = u128::from_str_radix(&text, 16);
        number.map_err(|_wrong| de::Error::custom(format!("`{text}` is no hexadecimal number")))
    }
}

/// `<epoch>.<revision>`.
pub(super) mod position {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::position::Position;

    pub(in crate::debug) fn serialize<S: Serializer>(
        position: &Position,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(position)
        } else {
            position.serialize(to)
        }
    }

    pub(in crate::debug) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Position, D::Error> {
        if from.is_human_readable() {
            let text = String::deserialize(from)?;
            text.parse().map_err(de::Error::custom)
        } else {
            Position::deserialize(from)
        }
    }
}
