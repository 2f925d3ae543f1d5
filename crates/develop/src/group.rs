//! A control group of version 1 with a memory limit, for one run of a program.
//! Source: Linux, `Documentation/admin-guide/cgroup-v1/memory.rst`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Removed when dropped.
pub(crate) struct Group {
    folder: PathBuf,
}

impl Group {
    /// Below the group that this process is in.
    pub(crate) fn new(limit_bytes: u64) -> Result<Group, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|controller| controller == "memory").then_some(path)
        });
        let own = own.ok_or("there is no memory controller of version 1")?;
        let folder = Path::new("/sys/fs/cgroup/memory")
            .join(own.trim_start_matches('/'))
            .join(format!("develop-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Group { folder };
        group.write("memory.limit_in_bytes", &limit_bytes.to_string())?;
        Ok(group)
    }

    /// The program, which enters the group before it begins.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        let enter = "echo $$ > \"$0\" && exec \"$@\"";
        command.args(["-c", enter]).arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }

    /// Bytes of files that were dropped and had to be read again soon.
    pub(crate) fn read_again_bytes(&self) -> Result<u64, String> {
        let path = self.folder.join("memory.stat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let pages = text.lines().find_map(|line| line.strip_prefix("workingset_refault_file ")?.parse().ok());
        pages.map(|pages: u64| pages * 4096).ok_or_else(|| format!("{} does not tell", path.display()))
    }

    /// The most that the group held, its pages of files included.
    pub(crate) fn peak_bytes(&self) -> Result<u64, String> {
        self.read("memory.max_usage_in_bytes")
    }

    fn read(&self, name: &str) -> Result<u64, String> {
        let path = self.folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        text.trim().parse().map_err(|error| format!("{}: {error}", path.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its pages go to the group around it; what stays behind is an empty folder.
        let _ = fs::remove_dir(&self.folder);
    }
}
