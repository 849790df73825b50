"""The simulation's bucket lists what a plain bucket in memory lists."""

from hypothesis import given
from hypothesis import strategies as st

from infra.local.s3 import MemoryS3
from infra.local.simulate.bucket import SortedS3
from training.registry.bucket import Bucket

KEYS = st.text("ab/1", min_size=1, max_size=4)


@given(
    written=st.lists(KEYS, max_size=12),
    deleted=st.lists(KEYS, max_size=4),
    prefix=st.text("ab/", max_size=2),
    after=KEYS,
)
def test_sorted_bucket_lists_the_same_keys_page_by_page(
    written: list[str], deleted: list[str], prefix: str, after: str
) -> None:
    listed = []
    for s3 in (SortedS3(clock=lambda: 0.0), MemoryS3()):
        for key in written:
            s3.put_object(Bucket="b", Key=key, Body=b"x")
        for key in deleted:
            s3.delete_object(Bucket="b", Key=key)
        pages, token = [], ""
        while True:
            page = s3.list_objects_v2(Bucket="b", Prefix=prefix, StartAfter=after, ContinuationToken=token, MaxKeys=2)
            pages.append([one["Key"] for one in page.get("Contents", ())])
            if not page["IsTruncated"]:
                break
            token = page["NextContinuationToken"]
        listed.append((pages, [one.key for one in Bucket(s3, "b").list_objects(prefix, start_after=after)]))
    assert listed[0] == listed[1]
