//! Reads a file: its paths, its method calls and its names, each with the systems that compile it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{
    Arm, Attribute, Expr, ExprMethodCall, Field, FieldValue, ImplItem, Item, ItemMod, ItemUse, Local, Macro,
    Path, Stmt, TraitItem, UseTree, Variant,
    visit::{self, Visit},
};

use super::{
    super::{attributes, tree::File},
    conditions::Systems,
    unix_only,
};

/// The parts of a file that matter.
#[derive(Debug, Default)]
pub(super) struct ReadFile {
    /// The modules in files of their own, by the path of their file without its ending.
    pub(super) modules: Vec<(String, Systems)>,
    imports: Vec<Mention>,
    /// Outside imports.
    mentions: Vec<Mention>,
    /// Names of methods and associated functions.
    methods: Vec<Mention>,
    /// The names that imports and items define.
    names: BTreeMap<String, Vec<Systems>>,
    aliases: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Mention {
    path: Vec<String>,
    line: usize,
    on: Systems,
}

impl ReadFile {
    /// The problems, each with its line.
    pub(super) fn problems(&self) -> BTreeSet<(usize, String)> {
        let mut problems = BTreeSet::new();
        let everywhere = |mention: &&Mention| mention.on != Systems::Unix;
        for mention in self.imports.iter().chain(&self.mentions).filter(everywhere) {
            let path = self.resolved(&mention.path);
            if unix_only::is_path(&path) {
                let path = path.join("::");
                problems.insert((
                    mention.line,
                    format!(
                        "`{path}` exists on Unix only; put it under `#[cfg(unix)]`, with a branch for other \
                         systems"
                    ),
                ));
            }
        }
        for mention in self.mentions.iter().filter(everywhere) {
            let Some(name) = mention.path.first() else { continue };
            if self.is_defined_on_unix_only(name) {
                problems.insert((
                    mention.line,
                    format!("this file defines `{name}` on Unix only; define it for other systems too"),
                ));
            }
        }
        let traits = self.imports.iter().filter(|import| unix_only::is_path(&import.path));
        let of_traits: BTreeSet<&str> = traits
            .filter_map(|import| import.path.last())
            .flat_map(|name| unix_only::methods_of(name))
            .copied()
            .collect();
        for method in self.methods.iter().filter(everywhere) {
            let Some(name) = method.path.first() else { continue };
            if of_traits.contains(name.as_str()) || unix_only::METHODS.contains(&name.as_str()) {
                problems.insert((
                    method.line,
                    format!(
                        "the method `{name}` exists on Unix only; call it under `#[cfg(unix)]`, with a \
                         branch for other systems"
                    ),
                ));
            }
        }
        problems
    }

    /// The path with its first name replaced by what an import says. An import that is a finding itself, or
    /// that is under `cfg(unix)`, is left alone: one finding is enough.
    fn resolved(&self, path: &[String]) -> Vec<String> {
        let import = path.first().and_then(|first| self.aliases.get(first));
        match import.filter(|import| !unix_only::is_path(import)) {
            Some(import) => import.iter().chain(path.iter().skip(1)).cloned().collect(),
            None => path.to_vec(),
        }
    }

    fn is_defined_on_unix_only(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|systems| systems.iter().all(|on| *on == Systems::Unix))
    }
}

/// Walks one file.
pub(super) struct FileReader {
    found: ReadFile,
    on: Systems,
    /// The folder of the modules that the reader's place in the file declares.
    folder: String,
}

impl FileReader {
    pub(super) fn read(file: &File) -> syn::Result<ReadFile> {
        let syntax = syn::parse_file(&file.text)?;
        let on = Systems::All.within(&syntax.attrs);
        let mut reader = Self { found: ReadFile::default(), on, folder: folder_of_modules(&file.path) };
        reader.visit_file(&syntax);
        Ok(reader.found)
    }

    fn under(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self)) {
        let outer = self.on;
        self.on = outer.within(attributes);
        read(self);
        self.on = outer;
    }

    fn define(&mut self, name: &Ident) {
        self.found.names.entry(name.to_string()).or_default().push(self.on);
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let joined = |name: &Ident| -> Vec<String> {
            let own = (name != "self").then(|| name.to_string());
            prefix.iter().cloned().chain(own).collect()
        };
        let (name, path, line) = match tree {
            UseTree::Path(tree) => return self.import(&tree.tree, &joined(&tree.ident)),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, prefix));
            }
            UseTree::Name(name) => {
                let path = joined(&name.ident);
                (path.last().cloned(), path, name.ident.span().start().line)
            }
            UseTree::Rename(name) => {
                let alias = (name.rename != "_").then(|| name.rename.to_string());
                (alias, joined(&name.ident), name.ident.span().start().line)
            }
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans.first().map_or(1, |span| span.start().line);
                (None, prefix.iter().cloned().chain(["*".to_owned()]).collect(), line)
            }
        };
        if let Some(name) = name {
            self.found.names.entry(name.clone()).or_default().push(self.on);
            self.found.aliases.insert(name, path.clone());
        }
        self.found.imports.push(Mention { path, line, on: self.on });
    }

    /// Reads the paths and the method calls in the tokens of a macro, whose grammar is unknown.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut before, mut colons) = (0, ' ', 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    let text = name.to_string();
                    if colons != 2 {
                        self.end_of_path(&mut path, line);
                        line = name.span().start().line;
                    }
                    if before == '.' {
                        self.method(text, line);
                    } else {
                        path.push(text);
                    }
                    (before, colons) = (' ', 0);
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Punct(sign) => {
                    self.end_of_path(&mut path, line);
                    (before, colons) = (sign.as_char(), 0);
                }
                TokenTree::Group(group) => {
                    self.end_of_path(&mut path, line);
                    self.tokens(group.stream());
                    (before, colons) = (' ', 0);
                }
                TokenTree::Literal(_) => {
                    self.end_of_path(&mut path, line);
                    (before, colons) = (' ', 0);
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.mention(std::mem::take(path), line);
        }
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        if let [_, .., last] = path.as_slice() {
            self.method(last.clone(), line);
        }
        self.found.mentions.push(Mention { path, line, on: self.on });
    }

    fn method(&mut self, name: String, line: usize) {
        self.found.methods.push(Mention { path: vec![name], line, on: self.on });
    }
}

impl<'ast> Visit<'ast> for FileReader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.under(attributes::of(item), |reader| {
            match item {
                Item::Const(item) => reader.define(&item.ident),
                Item::Enum(item) => reader.define(&item.ident),
                Item::Fn(item) => reader.define(&item.sig.ident),
                Item::Mod(item) => reader.define(&item.ident),
                Item::Static(item) => reader.define(&item.ident),
                Item::Struct(item) => reader.define(&item.ident),
                Item::Trait(item) => reader.define(&item.ident),
                Item::Type(item) => reader.define(&item.ident),
                Item::Union(item) => reader.define(&item.ident),
                Item::ExternCrate(_)
                | Item::ForeignMod(_)
                | Item::Impl(_)
                | Item::Macro(_)
                | Item::TraitAlias(_)
                | Item::Use(_)
                | Item::Verbatim(_)
                | _ => {}
            }
            visit::visit_item(reader, item);
        });
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let inner = format!("{}/{}", self.folder, item.ident);
        if item.content.is_none() {
            self.found.modules.push((inner, self.on));
            return;
        }
        let outer = std::mem::replace(&mut self.folder, inner);
        visit::visit_item_mod(self, item);
        self.folder = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => item.attrs.as_slice(),
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            ImplItem::Verbatim(_) | _ => &[],
        };
        self.under(attributes, |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => item.attrs.as_slice(),
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            TraitItem::Verbatim(_) | _ => &[],
        };
        self.under(attributes, |reader| visit::visit_trait_item(reader, item));
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Macro(statement) => statement.attrs.as_slice(),
            Stmt::Local(_) | Stmt::Item(_) | Stmt::Expr(..) => &[],
        };
        self.under(attributes, |reader| visit::visit_stmt(reader, statement));
    }

    fn visit_local(&mut self, local: &'ast Local) {
        self.under(&local.attrs, |reader| visit::visit_local(reader, local));
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        // The attributes of other expressions do not count, so what is in them is reported.
        #[expect(clippy::wildcard_enum_match_arm, reason = "the arms are the forms of a whole statement")]
        let attributes = match expression {
            Expr::Block(expression) => expression.attrs.as_slice(),
            Expr::Call(expression) => &expression.attrs,
            Expr::If(expression) => &expression.attrs,
            Expr::Macro(expression) => &expression.attrs,
            Expr::Match(expression) => &expression.attrs,
            Expr::MethodCall(expression) => &expression.attrs,
            _ => &[],
        };
        self.under(attributes, |reader| visit::visit_expr(reader, expression));
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.method(call.method.to_string(), call.method.span().start().line);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        self.under(&arm.attrs, |reader| visit::visit_arm(reader, arm));
    }

    fn visit_field(&mut self, field: &'ast Field) {
        self.under(&field.attrs, |reader| visit::visit_field(reader, field));
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        self.under(&field.attrs, |reader| visit::visit_field_value(reader, field));
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.under(&variant.attrs, |reader| visit::visit_variant(reader, variant));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(1, |segment| segment.ident.span().start().line);
        self.mention(names, line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    /// Attributes have no paths of code.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The folder of the modules that a file declares: that of the file for the root of a crate, or else one with
/// the file's name.
fn folder_of_modules(path: &str) -> String {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let is_root = ["lib", "main", "mod"].contains(&name)
        || ["/tests", "/benches", "/examples", "/src/bin"].iter().any(|end| folder.ends_with(end));
    if is_root { folder.to_owned() } else { stem.to_owned() }
}
