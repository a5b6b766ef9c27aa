//! A provider far away: SSH's window, which is made for short ways, does not bound what is copied.

use crate::world::{World, noise, said, within};
use sandbox::SandboxSpec;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Half of a round trip: farther than a satellite, so that waiting costs much more than a busy machine's work does.
const DISTANCE: Duration = Duration::from_millis(400);
/// What a client of OpenSSH lets be under way in one channel.
const CLIENTS_WINDOW: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_over_a_long_way_is_faster_than_the_clients_window_allows() {
    let spec = SandboxSpec { memory_bytes: 512 << 20, disk_bytes: 512 << 20, ..SandboxSpec::default() };
    let world = World::at(spec, DISTANCE).await;
    let bytes = noise(32 << 20);
    fs::write(world.path("here"), &bytes).unwrap();
    let (here, back) = (world.path("here"), world.path("back"));
    // once there and back for each window, and no other cost
    let allowed = 2 * DISTANCE * u32::try_from(bytes.len() / CLIENTS_WINDOW).unwrap();
    for arguments in [[here.to_str().unwrap(), "rental:there"], ["rental:there", back.to_str().unwrap()]] {
        let before = Instant::now();
        said(within("scp", world.client("scp").args(arguments).output()).await.unwrap());
        assert!(before.elapsed() < allowed, "{:?} for what a window allows in {allowed:?}", before.elapsed());
        eprintln!("{:?} of {allowed:?}", before.elapsed());
    }
    assert!(fs::read(back).unwrap() == bytes);
}
