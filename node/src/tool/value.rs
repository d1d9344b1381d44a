//! Values of tasks as JSON, whatever type they have.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// What users are told of values that JSON has no words for.
const NOTE: &str = "bytes are shown in hexadecimal, and numbers and keys that JSON has not as text";

/// A value of any type, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    /// The value.
    pub(super) value: Value,
    /// Whether it is all of it, or stands for something that is no JSON.
    exactness: Exactness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exactness {
    Exact,
    StandsFor,
}

impl Shown {
    /// What there is to say of it.
    pub(super) fn note(&self) -> Option<&'static str> {
        (self.exactness == Exactness::StandsFor).then_some(NOTE)
    }

    fn exact(value: impl Into<Value>) -> Self {
        Self { value: value.into(), exactness: Exactness::Exact }
    }

    fn stands_for(text: String) -> Self {
        Self { value: Value::String(text), exactness: Exactness::StandsFor }
    }

    /// As the key of an object.
    fn key(self) -> (String, Exactness) {
        match self.value {
            Value::String(text) => (text, self.exactness),
            value => (value.to_string(), Exactness::StandsFor),
        }
    }
}

impl Exactness {
    fn and(self, other: Self) -> Self {
        if self == Exactness::Exact { other } else { self }
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// What is read from the wire needs nothing of it later.
const _: fn() = || {
    fn is_owned<T: DeserializeOwned>() {}
    is_owned::<Shown>();
};

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Shown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Shown, E> {
        Ok(Shown::exact(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Shown, E> {
        Ok(Shown::exact(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Shown, E> {
        Ok(Shown::exact(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Shown, E> {
        Ok(Number::from_f64(value).map_or_else(|| Shown::stands_for(value.to_string()), Shown::exact))
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<Shown, E> {
        // By way of its shortest text: 0.1 is to be shown as 0.1.
        let shortest = value.to_string().parse().ok().and_then(Number::from_f64);
        Ok(shortest.map_or_else(|| Shown::stands_for(value.to_string()), Shown::exact))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Shown, E> {
        Ok(Shown::exact(value))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Shown, E> {
        let mut text = String::with_capacity(2 * value.len());
        value.iter().for_each(|byte| {
            text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])))
        });
        Ok(Shown::stands_for(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Shown, E> {
        Ok(Shown::exact(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Shown, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shown, D::Error> {
        Shown::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shown, D::Error> {
        Shown::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Shown, A::Error> {
        // No capacity from the length that the bytes state: it need not be true.
        let (mut values, mut exactness) = (Vec::new(), Exactness::Exact);
        while let Some(part) = parts.next_element::<Shown>()? {
            exactness = exactness.and(part.exactness);
            values.push(part.value);
        }
        Ok(Shown { value: Value::Array(values), exactness })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Shown, A::Error> {
        let (mut values, mut exactness) = (Map::new(), Exactness::Exact);
        while let Some((key, part)) = parts.next_entry::<Shown, Shown>()? {
            let (key, of_key) = key.key();
            exactness = exactness.and(of_key).and(part.exactness);
            values.insert(key, part.value);
        }
        Ok(Shown { value: Value::Object(values), exactness })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Shown, A::Error> {
        let (name, variant) = data.variant::<Shown>()?;
        let (name, of_name) = name.key();
        let part = variant.newtype_variant::<Shown>()?;
        let exactness = of_name.and(part.exactness);
        Ok(Shown { value: Value::Object(Map::from_iter([(name, part.value)])), exactness })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    /// What is shown of a value that a task returned, and whether a note comes with it.
    fn shown(packed: &[u8]) -> (Value, bool) {
        let shown: Shown = rmp_serde::from_slice(packed).unwrap();
        let noted = shown.note().is_some();
        (shown.value, noted)
    }

    fn packed(value: &impl serde::Serialize) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    #[derive(serde::Serialize)]
    enum Shape {
        Dot,
        Circle(u8),
        Square { side: f32 },
    }

    #[test]
    fn what_is_json_stays_what_it_is() {
        for value in [
            json!(null),
            json!(true),
            json!(-1),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(0.25),
            json!("grüß\n"),
            json!([1, [2], []]),
            json!({"a": {"b": null}, "": 0}),
        ] {
            assert_eq!(shown(&packed(&value)), (value.clone(), false), "{value}");
        }
    }

    #[test]
    fn types_of_rust_are_shown_as_serde_has_them() {
        for (packed, value) in [
            (packed(&0.1f32), json!(0.1)),
            (packed(&Some(3)), json!(3)),
            (packed(&None::<u8>), json!(null)),
            (packed(&()), json!(null)),
            (packed(&vec![1u8, 2]), json!([1, 2])),
            (
                packed(&[Shape::Dot, Shape::Circle(2), Shape::Square { side: 0.1 }]),
                json!(["Dot", {"Circle": 2}, {"Square": {"side": 0.1}}]),
            ),
            (packed(&Err::<u8, _>("no")), json!({"Err": "no"})),
        ] {
            assert_eq!(shown(&packed), (value, false));
        }
    }

    #[test]
    fn what_is_no_json_is_shown_as_text_with_a_note() {
        for (packed, value) in [
            (vec![0xc4, 3, 0, 0x0a, 0xff], json!("000aff")),
            (packed(&[f64::NAN, f64::INFINITY, 1.0]), json!(["NaN", "inf", 1.0])),
            (packed(&BTreeMap::from([(1, 'a'), (2, 'b')])), json!({"1": "a", "2": "b"})),
            (packed(&BTreeMap::from([((1, 2), ())])), json!({"[1,2]": null})),
            // One byte of an extension of MessagePack: its number, and its bytes.
            (vec![0xd4, 5, 0x7f], json!([5, "7f"])),
        ] {
            assert_eq!(shown(&packed), (value, true));
        }
    }

    #[test]
    fn bytes_that_are_nothing_are_an_error() {
        // Arrays in arrays, deeper than anybody nests them; a length without content; a byte that MessagePack has not.
        for packed in [vec![0x91; 100_000], vec![0xdd, 0xff, 0xff, 0xff, 0xff], vec![0xc1], vec![]] {
            assert!(rmp_serde::from_slice::<Shown>(&packed).is_err());
        }
    }
}
