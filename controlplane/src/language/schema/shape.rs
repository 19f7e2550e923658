//! A JSON Schema in the form that checking wants: what may be at one place of a document.
//!
//! Only what the schemas of [`catalog`](crate::language::schema::catalog) use is understood:
//! alternatives are an enumeration, or something and `null`.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::language::schema::constraints::{UNSUPPORTED_FIELDS, UNSUPPORTED_VALUES};
use crate::language::text::Format;

/// What may be at one place of a document. Without any type: anything.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Types of JSON: `string`, `integer`, `number`, `boolean`, `array`, `object`. `null` is not
    /// among them: where a field may be left out, `null` leaves it out.
    pub types: Vec<String>,
    /// Fields of an object by name; `None`: whatever names.
    pub fields: Option<BTreeMap<String, Shape>>,
    /// Which fields must be there.
    pub required: Vec<String>,
    /// What the values of an object with whatever names are.
    pub values: Option<Box<Shape>>,
    /// What the items of an array are.
    pub items: Option<Box<Shape>>,
    /// At least and at most so many items.
    pub items_min: Option<u64>,
    /// See [`Shape::items_min`].
    pub items_max: Option<u64>,
    /// A number is not less.
    pub minimum: Option<f64>,
    /// A number is not more.
    pub maximum: Option<f64>,
    /// A text has at least so many characters.
    pub length_min: Option<u64>,
    /// A text has at most so many characters.
    pub length_max: Option<u64>,
    /// A text has this form.
    pub format: Option<Format>,
    /// One of these; empty: any.
    pub allowed: Vec<Json>,
    /// Fields that the API has and Lateen has not, and what to say about them.
    pub unsupported_fields: BTreeMap<String, String>,
    /// Texts that the API has and Lateen has not, and what to say about them.
    pub unsupported_values: BTreeMap<String, String>,
}

impl Shape {
    /// Reads a schema.
    pub fn from_json(schema: &Json) -> Self {
        let mut shape = Self::default();
        shape.add(schema);
        shape
    }

    /// Whether a field must be there.
    pub fn requires(&self, name: &str) -> bool {
        self.required.iter().any(|required| required == name)
    }

    /// Adds a schema, or one of several alternatives.
    fn add(&mut self, schema: &Json) {
        for alternative in ["anyOf", "oneOf"].iter().filter_map(|&name| schema[name].as_array()) {
            alternative.iter().for_each(|schema| self.add(schema));
        }
        match &schema["type"] {
            Json::String(name) => self.add_type(name),
            Json::Array(names) => {
                names.iter().filter_map(Json::as_str).for_each(|name| self.add_type(name));
            }
            _ => {}
        }
        let constant = schema.get("const").into_iter();
        let listed = schema["enum"].as_array().into_iter().flatten();
        self.allowed.extend(constant.chain(listed).filter(|value| !value.is_null()).cloned());
        if let Some(fields) = schema["properties"].as_object() {
            let fields =
                fields.iter().map(|(name, schema)| (name.clone(), Self::from_json(schema)));
            self.fields.get_or_insert_default().extend(fields);
        }
        self.required.extend(texts(&schema["required"]));
        if schema["additionalProperties"].is_object() {
            self.values = Some(Box::new(Self::from_json(&schema["additionalProperties"])));
        }
        if let Some(items) = schema.get("items") {
            self.items = Some(Box::new(Self::from_json(items)));
        }
        self.items_min = schema["minItems"].as_u64().or(self.items_min);
        self.items_max = schema["maxItems"].as_u64().or(self.items_max);
        self.minimum = schema["minimum"].as_f64().or(self.minimum);
        self.maximum = schema["maximum"].as_f64().or(self.maximum);
        self.length_min = schema["minLength"].as_u64().or(self.length_min);
        self.length_max = schema["maxLength"].as_u64().or(self.length_max);
        self.format = schema["format"].as_str().and_then(Format::from_name).or(self.format);
        self.unsupported_fields.extend(reasons(&schema[UNSUPPORTED_FIELDS]));
        self.unsupported_values.extend(reasons(&schema[UNSUPPORTED_VALUES]));
    }

    fn add_type(&mut self, name: &str) {
        if name != "null" && !self.types.iter().any(|known| known == name) {
            self.types.push(name.to_owned());
        }
    }
}

fn texts(list: &Json) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned)
}

fn reasons(map: &Json) -> impl Iterator<Item = (String, String)> {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(name, reason)| (name.clone(), reason.as_str().unwrap_or_default().to_owned()))
}
