//! Tests of the tree of files in memory.

use super::*;

fn image(items: &[(&str, Option<&'static str>)]) -> Arc<Image> {
    let item = |contents: Option<&'static str>| {
        contents.map_or(Item::Directory, |text| Item::File(Bytes::from_static(text.as_bytes())))
    };
    let items = items.iter().map(|(path, contents)| (path.to_string(), item(*contents)));
    Arc::new(Image::new(items, 5).unwrap())
}

fn small() -> Arc<Image> {
    image(&[("a/one", Some("1")), ("a/two", Some("22")), ("b", None), ("top", Some("t"))])
}

const CREATE: OpenOptions =
    OpenOptions { create: true, exclusive: false, truncate: false, directory: false, write: true };

fn paths(tree: &Tree) -> Vec<String> {
    let mut paths = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in tree.list(tree.lookup(ROOT, &format!("/{directory}")).unwrap()).unwrap() {
            let path = format!("{directory}/{}", entry.name).trim_start_matches('/').to_string();
            if entry.kind == Kind::Directory {
                directories.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

fn contents(tree: &Tree, ino: Ino) -> Vec<u8> {
    let mut bytes = vec![0; tree.stat(ino).unwrap().len as usize];
    tree.read(ino, 0, &mut bytes[..]).unwrap();
    bytes
}

fn text(tree: &Tree, path: &str) -> Result<String> {
    Ok(String::from_utf8(contents(tree, tree.lookup(ROOT, path)?)).unwrap())
}

#[test]
fn looks_paths_up() {
    let tree = Tree::new(small());
    let a = tree.lookup(ROOT, "a").unwrap();
    assert_eq!(tree.lookup(a, "one"), tree.lookup(ROOT, "/a/./../a//one"));
    assert_eq!(tree.lookup(a, ".."), Ok(ROOT));
    assert_eq!(tree.lookup(ROOT, ".."), Ok(ROOT));
    assert_eq!(tree.lookup(ROOT, "a/three"), Err(Errno::NOENT));
    assert_eq!(tree.lookup(ROOT, "top/x"), Err(Errno::NOTDIR));
    assert_eq!(tree.lookup(ROOT, "top/"), Err(Errno::NOTDIR));
    assert_eq!(tree.lookup(ROOT, "top/.."), Err(Errno::NOTDIR));
    assert_eq!(tree.lookup(ROOT, ""), Err(Errno::NOENT));
}

#[test]
fn databases_of_one_image_do_not_see_each_other() {
    let image = small();
    let (mut one, two) = (Tree::new(image.clone()), Tree::new(image));
    let ino = one.lookup(ROOT, "a/one").unwrap();
    one.write(ino, 0, b"changed", 9).unwrap();
    one.remove_file(ROOT, "a/two", 9).unwrap();
    one.create_directory(ROOT, "c", 9).unwrap();
    assert_eq!(text(&one, "a/one").unwrap(), "changed");
    assert_eq!(text(&two, "a/one").unwrap(), "1");
    assert_eq!(paths(&one), ["a", "a/one", "b", "c", "top"]);
    assert_eq!(paths(&two), ["a", "a/one", "a/two", "b", "top"]);
    assert_eq!((one.stat(ino).unwrap().modified_ns, two.stat(ino).unwrap().modified_ns), (9, 5));
}

#[test]
fn opens_as_asked() {
    let mut tree = Tree::new(small());
    let open = |tree: &mut Tree, path: &str, options| tree.open(ROOT, path, options, 9);
    assert_eq!(open(&mut tree, "new", OpenOptions::default()), Err(Errno::NOENT));
    assert_eq!(open(&mut tree, "nowhere/new", CREATE), Err(Errno::NOENT));
    assert_eq!(open(&mut tree, "new/", CREATE), Err(Errno::ISDIR));
    assert_eq!(open(&mut tree, "top/new", CREATE), Err(Errno::NOTDIR));
    let new = open(&mut tree, "new", CREATE).unwrap();
    assert_eq!(open(&mut tree, "new", CREATE), Ok(new));
    assert_eq!(open(&mut tree, "new", OpenOptions { exclusive: true, ..CREATE }), Err(Errno::EXIST));
    assert_eq!(open(&mut tree, "a", OpenOptions { write: true, ..Default::default() }), Err(Errno::ISDIR));
    assert_eq!(open(&mut tree, "top", OpenOptions { directory: true, ..Default::default() }), Err(Errno::NOTDIR));
    let top = open(&mut tree, "top", OpenOptions { truncate: true, write: true, ..Default::default() }).unwrap();
    assert_eq!(tree.stat(top).unwrap().len, 0);
}

#[test]
fn an_unlinked_file_lives_until_its_last_descriptor_closes() {
    let mut tree = Tree::new(small());
    let ino = tree.open(ROOT, "a/two", OpenOptions::default(), 9).unwrap();
    tree.acquire(ino);
    tree.remove_file(ROOT, "a/two", 9).unwrap();
    assert_eq!(tree.lookup(ROOT, "a/two"), Err(Errno::NOENT));
    tree.write(ino, 2, b"!", 9).unwrap();
    tree.close(ino);
    assert_eq!(contents(&tree, ino), b"22!");
    tree.close(ino);
    assert!(!tree.changed.contains_key(&ino));
}

#[test]
fn renames_as_posix_says() {
    let mut tree = Tree::new(small());
    let rename = |tree: &mut Tree, from: &str, to: &str| tree.rename((ROOT, from), (ROOT, to), 9);
    assert_eq!(rename(&mut tree, "nothing", "x"), Err(Errno::NOENT));
    assert_eq!(rename(&mut tree, "a", "a/inside"), Err(Errno::INVAL));
    assert_eq!(rename(&mut tree, "top", "b"), Err(Errno::ISDIR));
    assert_eq!(rename(&mut tree, "b", "top"), Err(Errno::NOTDIR));
    assert_eq!(rename(&mut tree, "b", "a"), Err(Errno::NOTEMPTY));
    assert_eq!(rename(&mut tree, "top", "top"), Ok(()));
    rename(&mut tree, "top", "a/one").unwrap();
    assert_eq!(text(&tree, "a/one").unwrap(), "t");
    rename(&mut tree, "a", "b").unwrap();
    assert_eq!(paths(&tree), ["b", "b/one", "b/two"]);
    rename(&mut tree, "/b/", "/c/").unwrap();
    let c = tree.lookup(ROOT, "c").unwrap();
    assert_eq!(tree.lookup(c, ".."), Ok(ROOT));
}

#[test]
fn an_open_file_that_is_renamed_over_stays_readable() {
    let mut tree = Tree::new(small());
    let old = tree.open(ROOT, "a/one", OpenOptions::default(), 9).unwrap();
    tree.rename((ROOT, "a/two"), (ROOT, "a/one"), 9).unwrap();
    assert_eq!((contents(&tree, old), text(&tree, "a/one").unwrap()), (b"1".to_vec(), "22".to_string()));
}

#[test]
fn directories_and_links() {
    let mut tree = Tree::new(small());
    assert_eq!(tree.create_directory(ROOT, "a", 9), Err(Errno::EXIST));
    assert_eq!(tree.create_directory(ROOT, "x/y", 9), Err(Errno::NOENT));
    tree.create_directory(ROOT, "x/", 9).unwrap();
    assert_eq!(tree.remove_directory(ROOT, "a", 9), Err(Errno::NOTEMPTY));
    assert_eq!(tree.remove_directory(ROOT, "top", 9), Err(Errno::NOTDIR));
    assert_eq!(tree.remove_file(ROOT, "x", 9), Err(Errno::ISDIR));
    tree.remove_directory(ROOT, "x", 9).unwrap();
    assert_eq!(tree.hard_link((ROOT, "a"), (ROOT, "d"), 9), Err(Errno::ACCES));
    assert_eq!(tree.hard_link((ROOT, "top"), (ROOT, "b"), 9), Err(Errno::EXIST));
    tree.hard_link((ROOT, "top"), (ROOT, "b/top"), 9).unwrap();
    tree.remove_file(ROOT, "top", 9).unwrap();
    let ino = tree.lookup(ROOT, "b/top").unwrap();
    assert_eq!((tree.stat(ino).unwrap().links, text(&tree, "b/top").unwrap()), (1, "t".to_string()));
    assert_eq!(tree.create_directory(ROOT, &"n".repeat(256), 9), Err(Errno::NAMETOOLONG));
}

#[test]
fn an_image_names_the_path_it_cannot_hold() {
    let file = || Item::File(Bytes::new());
    let twice = [("f".to_string(), file()), ("f".to_string(), file())];
    assert_eq!(Image::new(twice, 0).unwrap_err(), ("f".to_string(), Errno::EXIST));
    let below = [("f".to_string(), file()), ("f/g".to_string(), file())];
    assert_eq!(Image::new(below, 0).unwrap_err(), ("f/g".to_string(), Errno::NOTDIR));
}
