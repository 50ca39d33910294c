//! JSON pointers as a tree of names.

/// JSON pointers, each with the most bytes that are kept of its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    /// The nodes. The first one stands for the whole text.
    nodes: Vec<Node>,
    longest_name: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The most bytes that are kept; `None` for a node where no pointer ends.
    limit: Option<usize>,
    below: Vec<Below>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Below {
    name: String,
    /// The name as an index of a list.
    index: Option<u64>,
    node: usize,
}

impl Pointers {
    /// Builds the tree of these pointers and limits. Of a pointer that comes twice the larger limit
    /// counts.
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
        // A byte of a character takes at most six bytes in the text.
        self.longest_name = self.longest_name.max(name.len() * 6);
        let is_plain = name == "0" || !name.starts_with(['0', '+']);
        let (index, new) = (name.parse().ok().filter(|_| is_plain), self.nodes.len());
        self.nodes[node].below.push(Below { name, index, node: new });
        self.nodes.push(Node::default());
        new
    }

    /// Returns the node where a pointer ends; `None` for an unknown pointer.
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

    /// The most bytes of a name of these pointers. A longer name is none of them.
    pub(super) fn longest_name(&self) -> usize {
        self.longest_name
    }
}

fn tokens(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}
