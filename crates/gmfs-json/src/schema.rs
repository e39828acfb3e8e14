//! The JSON Schemas of all answers in `docs/schema/`, made from the types and the comments of their fields. Tests compare
//! the files (`GMFS_UPDATE=1` writes them), and keep each name to one type and one meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

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

/// Properties that have another meaning or another type than the same name in other structures.
const OWN: &[&str] = &[
    "AllUnclaimed.complete",
    "AllUnclaimed.ranges",
    "BlockUsage.free",
    "BlockUsage.inodes",
    "BlocksThere.absent",
    "Compared.change",
    "Compared.result",
    "Copies.a",
    "Copies.b",
    "Counts.absent",
    "DebugfsSide.map",
    "DebugfsSide.tree",
    "Dump.damaged",
    "Flb.data",
    "Geometry.blocks",
    "GuestmemfsFound.inodes",
    "GuestmemfsFound.stale",
    "GuestmemfsFound.superblock",
    "GuestmemfsGeometry.bitmap",
    "GuestmemfsGeometry.blocks",
    "GuestmemfsInspect.blocks",
    "GuestmemfsInspect.inodes",
    "GuestmemfsInspect.pages",
    "GuestmemfsInspect.region",
    "GuestmemfsInspect.superblock",
    "GuestmemfsInspect.tree",
    "GuestmemfsTree.bitmap",
    "GuestmemfsTree.inodes",
    "GuestmemfsTree.region",
    "GuestmemfsTree.superblock",
    "GuestmemfsTree.whole",
    "Inspect.blocks",
    "Inspect.inodes",
    "Inspect.pages",
    "KhoKernel.architecture",
    "KhoKernel.codec",
    "KhoKernel.format",
    "KhoRegion.verdict",
    "KhoRuling.verdict",
    "LuoInspect.blocks",
    "LuoInspect.inodes",
    "LuoInspect.pages",
    "LuoInspect.tree",
    "MetricSample.value",
    "PkernfsGeometry.blocks",
    "PkernfsInspect.blocks",
    "PkernfsInspect.inodes",
    "PkernfsInspect.pages",
    "Populated.bytes",
    "Populated.files",
    "Preflight.result",
    "PreflightCheck.verdict",
    "Presence.blocks",
    "Presence.data",
    "Presence.metadata",
    "PreservedMap.users",
    "Region.detail",
    "Reported.output",
    "Reported.write_count",
    "Stretch.ino",
    "Stretch.what",
    "Superblock.generation",
    "Tally.absent",
    "Unclaimed.what",
];

/// A property as it occurs: in which structure, its name, its types without null, and its meaning.
type Occurrence = (String, String, BTreeSet<String>, String);

/// What the walk over a schema gathers, and what it needs.
struct Walk<'a> {
    defs: &'a Map<String, Value>,
    found: BTreeSet<Occurrence>,
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

    /// Leaves of a schema what its users need: no comments on structures, and each comment on a name in one line.
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
                        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ");
                        self.describe(structure, property);
                        property["description"] = meaning.clone().into();
                        self.found.insert((structure.to_owned(), name.clone(), self.types(property), meaning));
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.describe(structure, value)),
            _ => {}
        }
    }
}

/// The schema of an answer as it is in its file; adds its properties to `found`.
fn finished(command: &str, types: Vec<Value>, found: &mut BTreeSet<Occurrence>) -> Value {
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
    let mut walk = Walk { defs: &all, found: BTreeSet::new() };
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
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema")
}

/// The schemas by the names of their files, and the properties in them.
fn all() -> (BTreeMap<String, String>, BTreeSet<Occurrence>) {
    let (mut schemas, mut found) = (BTreeMap::new(), BTreeSet::new());
    for (command, types) in answers() {
        let schema = finished(command, types, &mut found);
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        schemas.insert(format!("{command}.json"), text);
    }
    (schemas, found)
}

#[test]
fn schemas_are_up_to_date() {
    let (mut made, found) = all();
    made.insert("README.md".to_owned(), readme(&found));
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

/// A property's name, with its structure if it has a meaning of its own there.
fn key(structure: &str, name: &str) -> String {
    let qualified = format!("{structure}.{name}");
    if OWN.contains(&qualified.as_str()) { qualified } else { name.to_owned() }
}
/// The types and meanings of a name, and the structures that use it so.
type Uses<'a> = BTreeMap<(&'a BTreeSet<String>, &'a str), Vec<&'a str>>;

#[test]
fn a_name_has_one_type_and_one_meaning() {
    let (_, found) = all();
    let mut uses: BTreeMap<String, Uses<'_>> = BTreeMap::new();
    for (structure, name, types, meaning) in &found {
        assert!(!meaning.is_empty(), "{structure}.{name} has no comment");
        uses.entry(key(structure, name)).or_default().entry((types, meaning)).or_default().push(structure);
    }
    let several: BTreeMap<_, _> = uses.iter().filter(|(_, uses)| uses.len() > 1).collect();
    assert!(several.is_empty(), "names of several types or meanings: {several:#?}");
    let needless = |qualified: &str| {
        let name = qualified.split_once('.').map_or(qualified, |(_, name)| name);
        let own = uses.get(qualified).and_then(|uses| uses.keys().next());
        own.is_none() || uses.get(name).is_some_and(|others| others.contains_key(own.unwrap()))
    };
    let needless: Vec<&&str> = OWN.iter().filter(|qualified| needless(qualified)).collect();
    assert!(needless.is_empty(), "in no answer, or like the same name in other structures: {needless:?}");
    assert!(OWN.is_sorted(), "OWN is not sorted");
}

/// The page that explains the names.
fn readme(found: &BTreeSet<Occurrence>) -> String {
    let mut text = include_str!("schema.md").to_owned();
    text.push_str("\n| name | meaning |\n| --- | --- |\n");
    let meanings: BTreeMap<String, &String> =
        found.iter().map(|(structure, name, _, meaning)| (key(structure, name), meaning)).collect();
    for (name, meaning) in meanings {
        let (structure, name) = name.split_once('.').map_or((None, name.as_str()), |(of, name)| (Some(of), name));
        let of = structure.map_or(String::new(), |of| format!(" of {of}"));
        text.push_str(&format!("| `{name}`{of} | {meaning} |\n"));
    }
    text
}
