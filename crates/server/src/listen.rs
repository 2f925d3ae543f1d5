//! Where clients connect: TCP addresses and Unix sockets.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use crate::error::Error;
use crate::security::Transport;

/// A place to listen at.
#[derive(Clone, Debug)]
pub enum Listen {
    /// A TCP address; with port 0 the system chooses one.
    Tcp(SocketAddr),
    /// A socket in the file system, for programs of the same user.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// The Unix socket at which a server with this data folder listens, whatever else it is told to: there this user's own programs
/// find it. Whoever can connect there can read the folder too, so no key is asked for.
pub fn socket(data: &Path) -> PathBuf {
    data.join("pouch.sock")
}

/// What carries one connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A place that is listened at.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, SocketFile, Transport),
}

/// Deletes the socket when the server ends.
#[cfg(unix)]
pub(crate) struct SocketFile(PathBuf);

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds it. To be called inside the runtime that will accept.
    pub(crate) fn bind(listen: &Listen) -> Result<Listener, Error> {
        match listen {
            Listen::Tcp(address) => {
                let bind = || -> io::Result<TcpListener> {
                    let listener = StdTcpListener::bind(address)?;
                    listener.set_nonblocking(true)?;
                    TcpListener::from_std(listener)
                };
                bind().map(Listener::Tcp).map_err(|source| Error::Bind { address: *address, source })
            }
            #[cfg(unix)]
            Listen::Unix(path) => bind_unix(path, Transport::Unix),
        }
    }

    /// Binds the socket by which this user's own programs find the server: see [`socket`].
    #[cfg(unix)]
    pub(crate) fn bind_own(data: &Path) -> Result<Listener, Error> {
        let fail = |source| Error::Io { action: format!("make {}", data.display()), source };
        std::fs::create_dir_all(data).map_err(fail)?;
        bind_unix(&socket(data), Transport::Own)
    }

    /// As people write it: an address for a browser, or a path.
    pub(crate) fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| String::new(), |address| format!("http://{address}"))
            }
            #[cfg(unix)]
            Listener::Unix(_, file, _) => format!("unix:{}", file.0.display()),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Listener::Tcp(_) => Transport::Tcp,
            #[cfg(unix)]
            Listener::Unix(_, _, transport) => *transport,
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A token is a small packet that must not wait for the next.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            Listener::Unix(listener, ..) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// A socket that only its owner can connect to. One that a killed server left is replaced, one with a listener is not.
#[cfg(unix)]
fn bind_unix(path: &Path, transport: Transport) -> Result<Listener, Error> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    let fail = |action: &str| {
        let action = format!("{action} {}", path.display());
        move |source| Error::Io { action, source }
    };
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(Error::NoSocket { path: path.to_owned() });
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(fail("remove"))?;
            }
            _ => return Err(Error::SocketInUse { path: path.to_owned() }),
        }
    }
    // Bound under another name and renamed once its mode is set: at no moment can others connect.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let listener = UnixListener::bind(&hidden).map_err(fail("make the socket"))?;
    let ready = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&hidden, path));
    if let Err(source) = ready {
        let _ = std::fs::remove_file(&hidden);
        return Err(fail("make the socket")(source));
    }
    Ok(Listener::Unix(listener, SocketFile(path.to_owned()), transport))
}
