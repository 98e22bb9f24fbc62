//! Reads the modules of a crate, and the paths in them.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::{
    ImplItem, Item, ItemMod, ItemUse, LitStr, Macro, PatIdent, Path, TraitItem, UseTree, VisRestricted,
    Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    super::{
        attributes,
        finding::Finding,
        tree::{File, Tree},
    },
    model::{Meaning, Mention, Model, Module},
};

/// Reads the crate that starts at `root`.
pub(super) fn read(tree: &Tree, root: &File) -> Result<Model, Finding> {
    let mut model = Model::default();
    let mut open = vec![Source { file: root, module: add(&mut model, root, None), folder: folder_of(root) }];
    while let Some(source) = open.pop() {
        let syntax = syn::parse_file(&source.file.text).map_err(|error| {
            Finding::new(source.file, error.span().start().line, format!("is not Rust: {error}"))
        })?;
        let mut reader = Reader {
            tree,
            file: source.file,
            model: &mut model,
            module: source.module,
            folder: source.folder,
            bound: BTreeSet::new(),
            single: Vec::new(),
            found: Vec::new(),
        };
        reader.visit_file(&syntax);
        open.append(&mut reader.finish());
    }
    Ok(model)
}

/// A file that is not read yet.
struct Source<'t> {
    file: &'t File,
    module: usize,
    /// The folder of its children.
    folder: String,
}

fn folder_of(root: &File) -> String {
    root.path.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn add(model: &mut Model, file: &File, parent: Option<usize>) -> usize {
    model.modules.push(Module { file: file.path.clone(), parent, names: BTreeMap::new(), globs: Vec::new() });
    model.modules.len() - 1
}

/// Reads one file.
struct Reader<'t, 'm> {
    tree: &'t Tree,
    file: &'t File,
    model: &'m mut Model,
    /// The innermost module at the reader's place in the file.
    module: usize,
    folder: String,
    /// The names that patterns of the file bind.
    bound: BTreeSet<String>,
    /// Single lower-case names. A name that a pattern binds is a variable.
    single: Vec<Mention>,
    /// The modules in files of their own.
    found: Vec<Source<'t>>,
}

impl<'t> Reader<'t, '_> {
    fn finish(mut self) -> Vec<Source<'t>> {
        for mention in self.single {
            if mention.path.first().is_some_and(|name| !self.bound.contains(name)) {
                self.model.mentions.push(mention);
            }
        }
        std::mem::take(&mut self.found)
    }

    fn define(&mut self, name: &Ident, meaning: Meaning) {
        if let Some(module) = self.model.modules.get_mut(self.module) {
            module.names.entry(name.to_string()).or_default().push(meaning);
        }
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        let mention = Mention { module: self.module, path, line };
        match mention.path.as_slice() {
            [name] if name.starts_with(|sign: char| sign.is_lowercase()) => self.single.push(mention),
            _ => self.model.mentions.push(mention),
        }
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], counts: bool) {
        let joined = |name: &Ident| {
            let mut path = prefix.to_vec();
            path.push(name.to_string());
            path
        };
        match tree {
            UseTree::Path(tree) => self.import(&tree.tree, &joined(&tree.ident), counts),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, prefix, counts);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                if let Some(last) = prefix.last() {
                    self.bind(last.clone(), prefix.to_vec(), counts, name.span());
                }
            }
            UseTree::Name(name) => {
                self.bind(name.ident.to_string(), joined(&name.ident), counts, name.span());
            }
            UseTree::Rename(name) => {
                let path = if name.ident == "self" { prefix.to_vec() } else { joined(&name.ident) };
                self.bind(name.rename.to_string(), path, counts, name.ident.span());
            }
            UseTree::Glob(glob) => {
                // The glob of an enum names the enum. The glob of a module names nothing by itself: the names
                // that the file uses count.
                if counts {
                    self.model.mentions.push(Mention {
                        module: self.module,
                        path: prefix.to_vec(),
                        line: glob.span().start().line,
                    });
                }
                if let Some(module) = self.model.modules.get_mut(self.module) {
                    module.globs.push(prefix.to_vec());
                }
            }
        }
    }

    fn bind(&mut self, alias: String, path: Vec<String>, counts: bool, span: proc_macro2::Span) {
        if counts {
            let line = span.start().line;
            self.model.mentions.push(Mention { module: self.module, path: path.clone(), line });
        }
        if let Some(module) = self.model.modules.get_mut(self.module) {
            module.names.entry(alias).or_default().push(Meaning::Import(path));
        }
    }

    /// The file of `mod name;`.
    fn child(&self, name: &str) -> Option<&'t File> {
        let own = format!("{}/{name}.rs", self.folder);
        self.tree.file(&own).or_else(|| self.tree.file(&format!("{}/{name}/mod.rs", self.folder)))
    }

    /// Reads the paths in the tokens of a macro or an attribute, whose grammar is unknown.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut previous = String::new();
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match &token {
                TokenTree::Ident(ident) => {
                    if previous != "::" || path.is_empty() {
                        path.clear();
                        line = ident.span().start().line;
                    }
                    let is_member = previous == "." || (previous == "::" && path.is_empty());
                    if !is_member {
                        path.push(ident.to_string());
                    }
                    previous = "a".to_owned();
                    let continues =
                        matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
                    let called = matches!(tokens.peek(), Some(TokenTree::Group(_)))
                        || matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
                    if let [name] = path.as_slice()
                        && !called
                        && !continues
                        && name.starts_with(|sign: char| sign.is_lowercase())
                    {
                        path.clear();
                    }
                    if !path.is_empty() {
                        self.mention(path.clone(), line);
                    }
                }
                TokenTree::Punct(punct) => {
                    let sign = punct.as_char();
                    previous =
                        if sign == ':' && previous == ":" { "::".to_owned() } else { sign.to_string() };
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    previous.clear();
                }
                TokenTree::Literal(literal) => {
                    // Such as `with = "path"` of serde.
                    let text: Result<LitStr, _> = syn::parse2(TokenTree::from(literal.clone()).into());
                    if previous == "="
                        && path.is_empty()
                        && let Ok(path) = text.and_then(|text| text.parse::<Path>())
                        && path.segments.len() > 1
                    {
                        self.visit_path(&path);
                    }
                    previous.clear();
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_, '_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes::is_test_only(attributes::of(item)) {
            return;
        }
        match item {
            Item::Const(item) => self.define(&item.ident, Meaning::Item),
            Item::Enum(item) => self.define(&item.ident, Meaning::Item),
            Item::Fn(item) => self.define(&item.sig.ident, Meaning::Item),
            Item::Static(item) => self.define(&item.ident, Meaning::Item),
            Item::Struct(item) => self.define(&item.ident, Meaning::Item),
            Item::Trait(item) => self.define(&item.ident, Meaning::Item),
            Item::TraitAlias(item) => self.define(&item.ident, Meaning::Item),
            Item::Type(item) => self.define(&item.ident, Meaning::Item),
            Item::Union(item) => self.define(&item.ident, Meaning::Item),
            Item::Macro(item) => {
                if let Some(name) = &item.ident {
                    self.define(name, Meaning::Macro);
                }
            }
            Item::ExternCrate(_)
            | Item::ForeignMod(_)
            | Item::Impl(_)
            | Item::Mod(_)
            | Item::Use(_)
            | Item::Verbatim(_)
            | _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        let folder = format!("{}/{name}", self.folder);
        if let Some((_, items)) = &item.content {
            let child = add(self.model, self.file, Some(self.module));
            self.define(&item.ident, Meaning::Module(child));
            let outer = (self.module, std::mem::replace(&mut self.folder, folder));
            self.module = child;
            for item in items {
                self.visit_item(item);
            }
            (self.module, self.folder) = outer;
        } else if let Some(file) = self.child(&name) {
            let child = add(self.model, file, Some(self.module));
            self.define(&item.ident, Meaning::Module(child));
            self.found.push(Source { file, module: child, folder });
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[], matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => item.attrs.as_slice(),
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(_) | ImplItem::Verbatim(_) | _ => &[],
        };
        if !attributes::is_test_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => item.attrs.as_slice(),
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(_) | TraitItem::Verbatim(_) | _ => &[],
        };
        if !attributes::is_test_only(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let line = path.segments.first().map_or(1, |segment| segment.ident.span().start().line);
            self.mention(names, line);
        }
        visit::visit_path(self, path);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast PatIdent) {
        let name = pattern.ident.to_string();
        if name.starts_with(|sign: char| sign.is_uppercase()) {
            // A constant or a unit variant.
            self.mention(vec![name], pattern.ident.span().start().line);
        } else {
            self.bound.insert(name);
        }
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.tokens(tokens.clone());
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}
