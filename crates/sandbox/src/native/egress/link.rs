//! What the TCP of a connection's inner side takes for its wire.

use smoltcp::phy::{self, DeviceCapabilities, Medium};

use super::device::Device;
use super::packet::trusted;

/// The largest packet of the inner side, headers included: a quarter of the window, so that the next is under way while one is handled.
const SEGMENT: usize = 16 * 1024;

/// The inner side's link: at most one packet that has come, and the interface for those that go.
pub(crate) struct Link<'a> {
    pub(crate) packet: Option<&'a [u8]>,
    pub(crate) device: Option<&'a mut Device>,
}

pub(crate) struct Came<'a>(&'a [u8]);
pub(crate) struct Goes<'a>(&'a mut Device);

impl phy::Device for Link<'_> {
    type RxToken<'a>
        = Came<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Goes<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Came<'_>, Goes<'_>)> {
        Some((Came(self.packet.take()?), Goes(self.device.as_deref_mut()?)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Goes<'_>> {
        self.device.as_deref_mut().map(Goes)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = SEGMENT;
        capabilities.checksum = trusted();
        capabilities
    }
}

impl phy::RxToken for Came<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl phy::TxToken for Goes<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.send_tcp(length, fill)
    }
}
