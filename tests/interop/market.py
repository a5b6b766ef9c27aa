"""The market's messages, from docs/protocol.md and proto/: framing, what an advertisement and an announcement must prove, and how a quote is
asked for. Nothing of the node's own code is used."""

import sys
import tempfile
import time
from pathlib import Path

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from grpc_tools import protoc
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.peer.id import ID

PROTO = Path(__file__).resolve().parents[2] / "proto"
NAMES = ["offers", "rental", "search", "session", "sync"]


def _messages():
    """Compiles proto/ and gives the modules of its messages."""
    made = tempfile.mkdtemp(prefix="gpulease-proto-")
    files = [f"gpulease/v1/{name}.proto" for name in NAMES]
    if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={made}", *files]) != 0:
        raise RuntimeError("proto/ could not be compiled")
    sys.path.insert(0, made)
    from gpulease.v1 import offers_pb2, rental_pb2

    return offers_pb2, rental_pb2


offers_pb2, rental_pb2 = _messages()


def must(condition, what):
    if not condition:
        raise AssertionError(f"does not hold: {what}")


def varint(number):
    """An unsigned varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def read_varint(data, at=0):
    """The varint that begins there, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return number, at


def framed(message):
    """A message behind its length."""
    return varint(len(message)) + message


def unframed(data):
    """The message in a frame."""
    must(len(data) > 0, "an answer comes")
    length, at = read_varint(data)
    must(len(data) - at == length, f"a message of {length} bytes has {len(data) - at}")
    return data[at:]


def topic(network, gpu_class):
    return f"/gpulease/1/{network}/ads/{gpu_class}"


def message_id(message):
    """The gossip message id: the first 20 bytes of keccak256(topic, a zero byte, data)."""
    return keccak(message.topicIDs[0].encode() + b"\0" + message.data)[:20]


def envelope_fields(raw):
    """libp2p's SignedEnvelope (RFC 0002): every field is bytes. Its signature is over the three parts, each behind its length."""
    fields, at = {}, 0
    while at < len(raw):
        key, at = read_varint(raw, at)
        must(key & 7 == 2, "an envelope holds bytes")
        length, at = read_varint(raw, at)
        fields[key >> 3], at = raw[at : at + length], at + length
    return fields[1], fields[2], fields[3], fields[5]


def open_announcement(data, gpu_class):
    """Checks an announcement that came on the topic of a class, and gives what it says."""
    must(len(data) <= 1024, "an announcement has at most 1 KiB")
    message = offers_pb2.Announcement.FromString(data)
    key = deserialize_public_key(message.public_key)
    must(key.verify(b"gpulease-announcement-v1" + message.body, message.signature), "its signature")
    said = offers_pb2.AnnouncementBody.FromString(message.body)
    must(ID.from_pubkey(key).to_bytes() == said.peer, "the key is the peer it names")
    must(gpu_class in said.classes, "it names the class of its topic")
    must(said.expires - said.seq <= 3_600_000 and said.expires > time.time() * 1000, "it is in force")
    return said


def _typed(domain, name, fields, message):
    kinds = {
        "verifyingContract": "address",
        "chainId": "uint256",
        "name": "string",
        "version": "string",
    }
    domain_fields = [{"name": field, "type": kinds[field]} for field in ["name", "version", "chainId", "verifyingContract"] if field in domain]
    types = {"EIP712Domain": domain_fields, name: [{"name": field, "type": kind} for field, kind in fields]}
    return encode_typed_data(full_message={"types": types, "primaryType": name, "domain": domain, "message": message})


def _address(data):
    return "0x" + data.hex()


def _escrow_domain(settlement):
    return {"name": "gpulease", "version": "1", "chainId": settlement.chain, "verifyingContract": _address(settlement.escrow)}


def open_ad(raw):
    """Checks an advertisement: the envelope, its key, its times, and the wallet's EIP-712 signature of the binding."""
    must(len(raw) <= 16 * 1024, "an advertisement has at most 16 KiB")
    public_key, payload_type, payload, signature = envelope_fields(raw)
    must(payload_type == b"/gpulease/ad/1", "the payload type")
    key = deserialize_public_key(public_key)
    signed = b"".join(framed(part) for part in [b"gpulease-ad-v1", payload_type, payload])
    must(key.verify(signed, signature), "the envelope's signature")
    ad = offers_pb2.ProviderAd.FromString(payload)
    must(ID.from_pubkey(key).to_bytes() == ad.peer, "the envelope's key is the peer")
    now = time.time() * 1000
    must(ad.seq <= now + 30_000 and ad.expires > now, "its times")
    binding = ad.binding
    fields = [
        ("peerId", "bytes"),
        ("providerKey", "address"),
        ("wallet", "address"),
        ("role", "string"),
        ("issuedAt", "uint64"),
        ("expires", "uint64"),
    ]
    message = {
        "peerId": ad.peer,
        "providerKey": _address(binding.provider_key),
        "wallet": _address(binding.wallet),
        "role": "provider",
        "issuedAt": binding.issued_at,
        "expires": binding.expires,
    }
    statement = _typed({"name": "gpulease", "version": "1", "chainId": binding.chain}, "NodeBinding", fields, message)
    signer = Account.recover_message(statement, signature=binding.signature)
    must(signer.lower() == _address(binding.wallet), "the wallet's signature of the binding")
    return ad


def list_ads(gpu_class, after):
    """A question of /gpulease/offers/1: a page of what a peer holds of a class."""
    return offers_pb2.OffersRequest(list=offers_pb2.ListAds(**{"class": gpu_class, "after": after, "limit": 64})).SerializeToString()


def ask_quote(wallet, renter_peer, ad, offer):
    """A request for a quote on the first price of an offer, signed by the wallet."""
    price, session, at = offer.prices[0], Account.create(), int(time.time())
    body = rental_pb2.QuoteRequestBody(
        settlement=price.settlement,
        token=price.token.address,
        wallet=bytes.fromhex(wallet.address[2:]),
        renter_key=bytes.fromhex(session.address[2:]),
        at=at,
        offer=offer.name,
        rate=price.rate,
        max_seconds=max(offer.min_seconds, 60),
        deposit=str(int(price.min_deposit) * 2),
        workload=rental_pb2.Workload(host_usr=rental_pb2.HostUsr()),
    ).SerializeToString()
    fields = [
        ("renterPeer", "bytes"),
        ("providerPeer", "bytes"),
        ("wallet", "address"),
        ("renterKey", "address"),
        ("request", "bytes32"),
        ("at", "uint64"),
    ]
    message = {
        "renterPeer": renter_peer,
        "providerPeer": ad.peer,
        "wallet": wallet.address,
        "renterKey": session.address,
        "request": keccak(body),
        "at": at,
    }
    signed = wallet.sign_message(_typed(_escrow_domain(price.settlement), "QuoteRequest", fields, message))
    quote = rental_pb2.QuoteRequest(body=body, signature=bytes(signed.signature))
    return rental_pb2.RentalRequest(quote=quote).SerializeToString()


def open_quote(reply, ad, wallet):
    """Checks a quote: the terms it stands for, the wallet it is from, and the provider key's signature."""
    quote = reply.quote
    must(quote.spec == keccak(reply.terms), "the spec is the hash of the terms")
    must(quote.provider == ad.binding.wallet, "it is from the bound wallet")
    must(_address(quote.renter) == wallet.address.lower(), "it is for the wallet that asked")
    addresses = {
        "provider": quote.provider,
        "providerKey": quote.provider_key,
        "renter": quote.renter,
        "renterKey": quote.renter_key,
        "token": quote.token,
    }
    numbers = [
        ("rate", "uint96", int(quote.rate)),
        ("minDeposit", "uint96", int(quote.min_deposit)),
        ("maxSeconds", "uint32", quote.max_seconds),
        ("window", "uint32", quote.window),
        ("expiry", "uint32", quote.expiry),
    ]
    fields = [(name, "address") for name in addresses] + [(name, kind) for name, kind, _ in numbers]
    fields += [("arbiter", "address"), ("device", "bytes32"), ("spec", "bytes32")]
    message = {name: _address(value) for name, value in addresses.items()} | {name: value for name, _, value in numbers}
    message |= {"arbiter": _address(quote.arbiter or bytes(20)), "device": quote.device, "spec": quote.spec}
    statement = _typed(_escrow_domain(quote.settlement), "Quote", fields, message)
    signer = Account.recover_message(statement, signature=reply.signature)
    must(signer.lower() == _address(ad.binding.provider_key), "the provider key's signature")
