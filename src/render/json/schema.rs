//! The JSON Schemas of all answers in `docs/schema/`: what is in an answer comes from the types that are serialised,
//! and what each name means from one list, [`NAMES`]. A test compares the files; `GMFS_UPDATE=1` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::names::NAMES;
use super::{
    actions, check, diff, dump, files, guestmemfs, host, kho, luo, pkernfs, region, schema_of, seals, space, vm,
};

/// The schema of a type, as it is serialised.
fn of<T: JsonSchema>() -> Value {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

/// Each answer with the types that it can have.
fn answers() -> BTreeMap<&'static str, Vec<Value>> {
    let changed = || vec![of::<actions::Changed>()];
    BTreeMap::from([
        ("bad-add", vec![of::<actions::Marked>()]),
        ("bad-del", vec![of::<actions::Marked>()]),
        ("bad-import", vec![of::<actions::Marked>()]),
        ("bad-list", vec![of::<files::Who>()]),
        ("chmod", changed()),
        ("chown", changed()),
        ("cp", changed()),
        ("create", changed()),
        ("df", vec![of::<space::Df>()]),
        ("diff", vec![of::<diff::Diff>()]),
        ("dump", vec![of::<dump::Dumped>()]),
        ("error", vec![of::<super::ErrorBody>()]),
        ("explain", vec![of::<check::Explain>()]),
        ("extract", vec![of::<actions::Extract>()]),
        ("fsck", vec![of::<check::Fsck>()]),
        ("inject", vec![of::<actions::Inject>()]),
        (
            "inspect",
            vec![
                of::<region::Inspect>(),
                of::<region::InspectRaw>(),
                of::<dump::InspectImage>(),
                of::<pkernfs::PkernfsInspect>(),
                of::<guestmemfs::GuestmemfsInspect>(),
                of::<luo::LuoInspect>(),
                of::<luo::DebugfsInspect>(),
            ],
        ),
        ("kho-compat", vec![of::<kho::KhoCompat>()]),
        ("ls", vec![of::<files::Listing>()]),
        ("map", vec![of::<files::Map>(), of::<space::MapOfImage>()]),
        ("metrics", vec![of::<space::Metrics>()]),
        ("mkdir", changed()),
        ("mkfs", vec![of::<actions::Mkfs>()]),
        ("mv", changed()),
        ("plan", vec![of::<host::Plan>()]),
        ("preflight", vec![of::<host::Preflight>()]),
        ("put", changed()),
        ("repair", vec![of::<check::Repair>()]),
        ("report", vec![of::<space::Reported>()]),
        ("restore", vec![of::<actions::PutBack>()]),
        ("rm", changed()),
        ("save", vec![of::<actions::Save>()]),
        ("scan", vec![of::<actions::Scan>()]),
        ("seal", vec![of::<seals::Seal>()]),
        ("stat", vec![of::<files::Stat>()]),
        ("tree", vec![of::<files::Listing>()]),
        ("truncate", changed()),
        ("tune", vec![of::<space::Tuned>()]),
        ("undo", vec![of::<actions::PutBack>()]),
        ("unseal", vec![of::<seals::Unseal>()]),
        ("verify", vec![of::<seals::Verify>()]),
        ("vm-list", vec![of::<vm::List>()]),
        ("vm-resume", vec![of::<vm::Resumed>()]),
        ("vm-save", vec![of::<vm::Saved>()]),
        ("who", vec![of::<files::Who>()]),
    ])
}

/// A property as it occurs: in which structure, its name, and its types without null.
type Occurrence = (String, String, BTreeSet<String>);

/// What the walk over a schema gathers, and what it needs.
struct Walk<'a> {
    defs: &'a Map<String, Value>,
    found: BTreeSet<Occurrence>,
    missing: BTreeSet<String>,
}

impl Walk<'_> {
    /// The types of a schema, without null.
    fn types(&self, schema: &Value) -> BTreeSet<String> {
        let mut types = BTreeSet::new();
        match &schema["type"] {
            Value::String(one) => drop(types.insert(one.clone())),
            Value::Array(several) => types.extend(several.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
            types.extend(self.types(&self.defs[name]));
        }
        for one in schema["anyOf"].as_array().into_iter().flatten() {
            types.extend(self.types(one));
        }
        types.remove("null");
        // `integer` counts as `number`.
        if types.remove("integer") {
            types.insert("number".to_owned());
        }
        types
    }

    /// Replaces the comments of the code in a schema by the meanings of its names.
    fn describe(&mut self, structure: &str, schema: &mut Value) {
        match schema {
            Value::Object(map) => {
                map.remove("description");
                map.remove("format");
                map.remove("minimum");
                map.remove("maximum");
                if map.contains_key("properties") {
                    map.insert("additionalProperties".to_owned(), true.into());
                }
                for (key, value) in map.iter_mut() {
                    let Some(properties) = value.as_object_mut().filter(|_| key == "properties") else {
                        self.describe(structure, value);
                        continue;
                    };
                    for (name, property) in properties {
                        self.describe(structure, property);
                        self.found.insert((structure.to_owned(), name.clone(), self.types(property)));
                        let qualified = format!("{structure}.{name}");
                        let meaning = NAMES.iter().find(|row| row.0 == qualified);
                        match meaning.or_else(|| NAMES.iter().find(|row| row.0 == name)) {
                            Some((_, meaning)) => property["description"] = (*meaning).into(),
                            None => drop(self.missing.insert(qualified)),
                        }
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.describe(structure, value)),
            _ => {}
        }
    }
}

/// The schema of an answer as it is in its file; adds its properties to `found`, and those without a meaning to
/// `missing`.
fn finished(
    command: &str,
    types: Vec<Value>,
    found: &mut BTreeSet<Occurrence>,
    missing: &mut BTreeSet<String>,
) -> Value {
    let mut defs = Map::new();
    let mut bodies = Vec::new();
    for mut body in types {
        if let Some(Value::Object(own)) = body.as_object_mut().and_then(|body| body.remove("$defs")) {
            for (name, def) in own {
                let other = defs.insert(name.clone(), def.clone());
                assert!(other.is_none_or(|other| other == def), "two structures of the name {name}");
            }
        }
        bodies.push(body);
    }
    let all = defs.clone();
    let mut walk = Walk { defs: &all, found: BTreeSet::new(), missing: BTreeSet::new() };
    for (name, def) in &mut defs {
        walk.describe(name, def);
    }
    for body in &mut bodies {
        let title = body["title"].as_str().unwrap_or_default().to_owned();
        walk.describe(&title, body);
        let map = body.as_object_mut().unwrap();
        map.remove("$schema");
        map.remove("title");
    }
    found.append(&mut walk.found);
    missing.append(&mut walk.missing);
    let (name, version) =
        schema_of(command).split_once('/').map(|(name, version)| (name.to_owned(), version.to_owned())).unwrap();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{name}/{version}"),
        "description": if command == "error" {
            "What a command answers that could not do what it was asked to.".to_owned()
        } else {
            format!("The answer of `gmfs {}`.", command.replacen("bad-", "bad ", 1).replacen("kho-", "kho ", 1))
        },
        "type": "object",
        "properties": {
            "schema": { "const": format!("{name}/{version}"), "description": "The schema of this answer." },
            "gmfs": { "type": "string", "description": "The version of gmfs that made the answer." },
        },
        "required": ["schema", "gmfs"],
        "additionalProperties": true,
    });
    if bodies.len() == 1 {
        let mut body = bodies.remove(0);
        schema["properties"].as_object_mut().unwrap().append(body["properties"].as_object_mut().unwrap());
        schema["required"].as_array_mut().unwrap().append(body["required"].as_array_mut().unwrap());
    } else {
        schema["anyOf"] = bodies.into();
    }
    if !defs.is_empty() {
        schema["$defs"] = defs.into();
    }
    schema
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema")
}

/// The schemas by the names of their files, the properties in them, and those that [`NAMES`] does not know.
fn all() -> (BTreeMap<String, String>, BTreeSet<Occurrence>, BTreeSet<String>) {
    let (mut schemas, mut found, mut missing) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for (command, types) in answers() {
        let schema = finished(command, types, &mut found, &mut missing);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        schemas.insert(format!("{command}.json"), text);
    }
    (schemas, found, missing)
}

#[test]
fn schemas_are_up_to_date() {
    let (mut made, _, _) = all();
    made.insert("README.md".to_owned(), readme());
    let directory = directory();
    let committed = || -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().map(Result::unwrap);
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
            .collect()
    };
    if std::env::var_os("GMFS_UPDATE").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for old in committed().keys().filter(|name| !made.contains_key(*name)) {
            std::fs::remove_file(directory.join(old)).unwrap();
        }
        for (name, text) in &made {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let found = committed();
    assert_eq!(found.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "GMFS_UPDATE=1 rewrites docs/schema");
    for (name, text) in &made {
        assert!(found.get(name) == Some(text), "docs/schema/{name} has drifted: GMFS_UPDATE=1 rewrites it");
    }
}

/// Every name is explained, every explanation is of a name that there is, and each name has one type.
#[test]
fn a_name_has_one_type_and_one_meaning() {
    let (_, found, missing) = all();
    assert!(missing.is_empty(), "no meaning in NAMES: {missing:#?}");
    let mut types: BTreeMap<String, BTreeMap<&BTreeSet<String>, Vec<&str>>> = BTreeMap::new();
    for (structure, name, kinds) in &found {
        let qualified = format!("{structure}.{name}");
        let key = if NAMES.iter().any(|row| row.0 == qualified) { qualified } else { name.clone() };
        types.entry(key).or_default().entry(kinds).or_default().push(structure);
    }
    let several: BTreeMap<_, _> = types.iter().filter(|(_, kinds)| kinds.len() > 1).collect();
    assert!(several.is_empty(), "names of several types: {several:#?}");
    let unused: Vec<&str> = NAMES.iter().map(|row| row.0).filter(|name| !types.contains_key(*name)).collect();
    assert!(unused.is_empty(), "explained, and in no answer: {unused:?}");
    assert!(NAMES.windows(2).all(|rows| rows[0].0 < rows[1].0), "NAMES is not sorted");
}

/// The page that explains the names.
fn readme() -> String {
    let mut text = include_str!("schema.md").to_owned();
    text.push_str("\n| name | meaning |\n| --- | --- |\n");
    for (name, meaning) in NAMES {
        let (structure, name) = name.split_once('.').map_or((None, *name), |(of, name)| (Some(of), name));
        let of = structure.map_or(String::new(), |of| format!(" of {of}"));
        text.push_str(&format!("| `{name}`{of} | {meaning} |\n"));
    }
    text
}
