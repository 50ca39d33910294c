//! Where to look: JSON pointers as a tree of names.

/// JSON pointers, each with the most bytes that are kept of the value there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    /// The first one is the whole text.
    nodes: Vec<Node>,
    longest_name: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// How much is kept; `None` when no pointer ends here.
    limit: Option<usize>,
    below: Vec<Below>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Below {
    name: String,
    /// The same as a place in a list.
    index: Option<u64>,
    node: usize,
}

impl Pointers {
    /// These pointers, each with its limit. Of a pointer that is there twice the larger limit counts.
    pub fn new<'a>(pointers: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let mut tree = Self { nodes: vec![Node::default()], longest_name: 0 };
        for (pointer, limit) in pointers {
            let node = tokens(pointer).fold(0, |node, name| tree.below(node, name));
            let known = &mut tree.nodes[node].limit;
            *known = Some(known.unwrap_or_default().max(limit));
        }
        tree
    }

    fn below(&mut self, node: usize, name: String) -> usize {
        if let Some(node) = self.member(node, &name) {
            return node;
        }
        // A character is written with at most six bytes for each of its own.
        self.longest_name = self.longest_name.max(name.len() * 6);
        let is_plain = name == "0" || !name.starts_with(['0', '+']);
        let (index, new) = (name.parse().ok().filter(|_| is_plain), self.nodes.len());
        self.nodes[node].below.push(Below { name, index, node: new });
        self.nodes.push(Node::default());
        new
    }

    /// Where a pointer ends; `None` when it is none of these.
    pub(super) fn node(&self, pointer: &str) -> Option<usize> {
        let node = tokens(pointer).try_fold(0, |node, name| self.member(node, &name))?;
        self.is_target(node).then_some(node)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn limit(&self, node: usize) -> usize {
        self.nodes[node].limit.unwrap_or_default()
    }

    pub(super) fn is_target(&self, node: usize) -> bool {
        self.nodes[node].limit.is_some()
    }

    pub(super) fn is_inner(&self, node: usize) -> bool {
        !self.nodes[node].below.is_empty()
    }

    pub(super) fn member(&self, node: usize, name: &str) -> Option<usize> {
        self.nodes[node].below.iter().find(|below| below.name == name).map(|below| below.node)
    }

    pub(super) fn element(&self, node: usize, index: u64) -> Option<usize> {
        self.nodes[node].below.iter().find(|below| below.index == Some(index)).map(|below| below.node)
    }

    pub(super) fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        self.nodes[node].below.iter().map(|below| below.node)
    }

    /// A name that takes more bytes is none of these.
    pub(super) fn longest_name(&self) -> usize {
        self.longest_name
    }
}

fn tokens(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}
