//! The interface of a sandbox whose other end is a file: what programs inside send is read from it, what is written to it they receive. It is
//! made by the builder in the sandbox's network namespace and lives as long as the file is open.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::netlink::Netlink;

/// Where the kernel gives such interfaces away.
pub(crate) const CLONE_DEVICE: &str = "/dev/net/tun";

/// The interface's name inside.
pub(crate) const NAME: &str = "egress";

/// The addresses inside. They are private ones that mean nothing outside.
const ADDRESS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100));
const ADDRESS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd67, 0x7075, 0x6c65, 0, 0, 0, 0, 0x100));

/// The largest packet there can be, so that none is ever cut into pieces.
pub(crate) const MAX_PACKET: usize = 65_535;

/// `struct virtio_net_hdr`, which stands before each packet: flags, kind of segmentation, header length, segment size, where the sum
/// starts, where it is put.
const PREFIX: usize = 10;

/// In that header: the sum over the packet is left out, and may be.
const NEEDS_SUM: u8 = 1;

/// The open interface.
pub(crate) struct Device {
    file: File,
    /// One packet on its way in, with its prefix.
    outgoing: Vec<u8>,
}

impl Device {
    /// Takes over the file that [`create`] made.
    pub(crate) fn new(file: OwnedFd) -> Device {
        Device { file: File::from(file), outgoing: room() }
    }

    /// The next packet that the sandbox sends, read into [`room`]; nothing when there is none now.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(buffer.get(PREFIX..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the sandbox a packet with all its sums.
    pub(crate) fn send(&mut self, packet: &[u8]) {
        self.outgoing[..PREFIX].fill(0);
        if let Some(place) = self.outgoing.get_mut(PREFIX..PREFIX + packet.len()) {
            place.copy_from_slice(packet);
            self.write(packet.len());
        }
    }

    /// Gives the sandbox a packet of TCP, whose sum is left out: it does not leave this machine's memory.
    pub(crate) fn send_tcp<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let length = length.min(MAX_PACKET);
        let place = &mut self.outgoing[PREFIX..PREFIX + length];
        let result = fill(place);
        let header: u16 = if place.first().is_some_and(|first| first >> 4 == 6) { 40 } else { 20 };
        self.outgoing[..PREFIX].fill(0);
        self.outgoing[0] = NEEDS_SUM;
        self.outgoing[6..8].copy_from_slice(&header.to_ne_bytes());
        self.outgoing[8..10].copy_from_slice(&16u16.to_ne_bytes());
        self.write(length);
        result
    }

    fn write(&mut self, length: usize) {
        // A packet that the interface does not take is lost, as on any link; that the sandbox is gone is seen elsewhere.
        let _ = (&self.file).write(&self.outgoing[..PREFIX + length]);
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Room for the largest packet with its prefix.
pub(crate) fn room() -> Vec<u8> {
    vec![0; PREFIX + MAX_PACKET]
}

/// Why there can be no such interface on this machine, if so.
pub(crate) fn usable() -> io::Result<()> {
    let file = open()?;
    let mut features: libc::c_uint = 0;
    // SAFETY: the call writes one number.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETFEATURES, &raw mut features) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let needed = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if features & needed as libc::c_uint == needed as libc::c_uint {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "it lacks what Linux has had since 2.6.27"))
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(Path::new(CLONE_DEVICE))
}

/// Makes the interface in this process's network namespace and leads all that has no other way there.
pub(crate) fn create(ipv6: bool) -> io::Result<OwnedFd> {
    let file = open()?;
    // SAFETY: zero is a valid value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the first call takes one `struct ifreq`, the second a number.
    let failed = unsafe {
        libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) != 0
            || libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(libc::TUN_F_CSUM)) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    let netlink = Netlink::open()?;
    let index = index()?;
    netlink.raise(index, MAX_PACKET as u32)?;
    for address in [Some(ADDRESS_V4), ipv6.then_some(ADDRESS_V6)].into_iter().flatten() {
        netlink.add_address(index, address)?;
        netlink.add_default_route(index, address)?;
    }
    Ok(file.into())
}

fn index() -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    Ok(name_to_index(socket(AddressFamily::INET, SocketType::DGRAM, None)?, NAME)?)
}
