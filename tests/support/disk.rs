//! A disk that a test can fill.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{as_root, run};

/// A file system in memory, at a folder; gone when dropped.
pub(crate) struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Mounts one at a new folder. What is not written takes no memory.
    pub(super) fn mount(place: &Path) -> Self {
        fs::create_dir(place).unwrap();
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let mut mount = as_root("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size=2g,mode=700,uid={user},gid={group}"), "tmpfs"]);
        mount.arg(place);
        run(mount).ok();
        Self { place: place.to_owned() }
    }

    /// Nothing more can be written from now on.
    pub(crate) fn fill(&self) {
        // What is written meanwhile makes the size too small, which is refused.
        let full = (0..100).any(|_| {
            let used = nix::sys::statvfs::statvfs(&self.place).unwrap();
            let pages = used.blocks() - used.blocks_free();
            let resized = self.resize(&format!("nr_blocks={pages}"));
            thread::sleep(Duration::from_millis(20));
            resized
        });
        assert!(full, "the disk in memory cannot be made smaller");
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        assert!(self.resize("size=2g"), "the disk in memory cannot be made larger");
    }

    fn resize(&self, size: &str) -> bool {
        let mut mount = as_root("mount");
        mount.args(["-o", &format!("remount,{size}")]).arg(&self.place);
        run(mount).code == Some(0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut umount = as_root("umount");
        umount.arg("--lazy").arg(&self.place);
        drop(run(umount));
    }
}
