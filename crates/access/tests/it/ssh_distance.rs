//! A provider far away: SSH's window, which is made for short ways, does not bound what is copied.

use crate::world::{World, noise, said, within};
use sandbox::SandboxSpec;
use std::{
    fs,
    time::{Duration, Instant},
};

/// Half of a round trip: by way of a satellite, so that waiting costs more than a busy machine's work does.
const DISTANCE: Duration = Duration::from_millis(200);
/// What a client of OpenSSH lets be under way in one channel.
const CLIENTS_WINDOW: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_over_a_long_way_is_faster_than_the_clients_window_allows() {
    let spec = SandboxSpec { memory_bytes: 512 << 20, disk_bytes: 512 << 20, ..SandboxSpec::default() };
    let world = World::at(spec, DISTANCE).await;
    let bytes = noise(64 << 20);
    fs::write(world.path("here"), &bytes).unwrap();
    fs::write(world.path("little"), b"x").unwrap();
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let copy = async |from: &str, to: &str| {
        let before = Instant::now();
        said(within("scp", world.client("scp").args([from, to]).output()).await.unwrap());
        before.elapsed()
    };
    // once there and back for each window, and no other cost
    let allowed = 2 * DISTANCE * u32::try_from(bytes.len() / CLIENTS_WINDOW).unwrap();
    let (there, other) = ("rental:there", "rental:little");
    for [from, to, little, its_copy] in
        [[&path("here"), there, &path("little"), other], [there, &path("back"), other, &path("little-back")]]
    {
        // what any copy takes, however little it is
        let beside = copy(little, its_copy).await;
        let taken = copy(from, to).await.saturating_sub(beside);
        assert!(taken < allowed, "{taken:?} for what a window allows in {allowed:?}");
        eprintln!("{taken:?} of {allowed:?}, beside {beside:?}");
    }
    let back = world.path("back");
    assert!(fs::read(back).unwrap() == bytes);
}
