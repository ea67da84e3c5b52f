-- Guards that need other rows or exact arithmetic, for PostgreSQL; {schema} is the ledger's. Names mean what they mean
-- in pg_catalog, whatever search path the caller has set. Amounts are JSON of fractions a/b; a/b <= c/d is asked as
-- a d <= c b, in numerics, which are exact.

-- Refuses, in the words that the trigger gives it.
CREATE OR REPLACE FUNCTION {schema}.guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = TG_ARGV[0];
END $$;

-- Numerator and denominator; whatever is not a fraction >= 0 is refused, and what is too long for those who read it.
CREATE OR REPLACE FUNCTION {schema}.guard_fraction(amount text)
RETURNS numeric[] LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF amount !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR length(amount) > 4000 THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an amount is a fraction, at least 0';
    END IF;
    RETURN string_to_array(amount || '/1', '/')::numeric[];
END $$;

-- The two halves of what is a fraction for sure; expressions take these in, and call nothing.
CREATE OR REPLACE FUNCTION {schema}.numerator(amount text) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN split_part(amount, '/', 1)::numeric;

CREATE OR REPLACE FUNCTION {schema}.denominator(amount text) RETURNS numeric LANGUAGE sql IMMUTABLE
RETURN split_part(amount || '/1', '/', 2)::numeric;

-- What stands before the i-th part of JSON that is taken apart at its quotation marks: there, at 4, 8, 12, are its values.
CREATE OR REPLACE FUNCTION {schema}.words(amounts text, i integer) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN (string_to_array(amounts, '"'))[i - 3 : i - 1];

-- Whether both are of one kind with the same names, and no amount of `one` is above that of `other`.
CREATE OR REPLACE FUNCTION {schema}.guard_at_most(one text, other text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    others jsonb := other;
    name text;
    amount text;
    a numeric[];
    b numeric[];
BEGIN
    IF one::jsonb ->> 'kind' IS DISTINCT FROM others ->> 'kind' THEN
        RETURN false;
    END IF;
    FOR name, amount IN SELECT * FROM jsonb_each_text(one::jsonb - 'kind') LOOP
        a := {schema}.guard_fraction(amount);
        b := {schema}.guard_fraction(others ->> name);
        IF (a[1] * b[2] <= b[1] * a[2]) IS NOT TRUE THEN
            RETURN false;
        END IF;
        others := others - name;
    END LOOP;
    RETURN FOUND AND others - 'kind' = '{}';
END $$;

-- Whether acquired + consumed lie within the capacity: every amount, or that of one Renyi order. All three are in the same
-- words but for the amounts. (Once in each transaction every expression is made ready, which takes longer than what it
-- does: so there are few, and none that asks a query.)
CREATE OR REPLACE FUNCTION {schema}.guard_fits(acquired text, consumed text, capacity text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    parts integer := cardinality(string_to_array(capacity, '"'));
    a text;
    c text;
    w text;
    fitting integer := 0;
    others integer := 0;
BEGIN
    IF greatest(length(acquired), length(consumed)) > length(capacity) + 4000 * parts THEN
        RETURN false; -- before it is taken apart over and over
    END IF;
    FOR i IN 4 .. parts BY 4 LOOP
        a := split_part(acquired, '"', i);
        c := split_part(consumed, '"', i);
        w := split_part(capacity, '"', i);
        IF {schema}.words(acquired, i) <> {schema}.words(capacity, i)
            OR {schema}.words(consumed, i) <> {schema}.words(capacity, i)
        THEN
            RETURN false;
        ELSIF split_part(capacity, '"', i - 2) = 'kind' THEN
            IF a <> w OR c <> w THEN
                RETURN false;
            END IF;
        ELSIF a !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR c !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR length(a) > 4000 OR length(c) > 4000
        THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an amount is a fraction, at least 0';
        ELSIF ({schema}.numerator(a) * {schema}.denominator(c) + {schema}.numerator(c) * {schema}.denominator(a))
            * {schema}.denominator(w) <= {schema}.numerator(w) * ({schema}.denominator(a) * {schema}.denominator(c))
        THEN
            fitting := fitting + 1;
        ELSE
            others := others + 1;
        END IF;
    END LOOP;
    RETURN fitting > 0 AND (others = 0 OR position('"kind": "renyi"' IN capacity) > 0)
        AND {schema}.words(acquired, parts + 3) = {schema}.words(capacity, parts + 3)
        AND {schema}.words(consumed, parts + 3) = {schema}.words(capacity, parts + 3);
END $$;

-- acquired + asked, fractions in lowest terms, if consumed and that lie within the capacity (as above); NULL where they do
-- not, `asked` is in other words, or an amount gets too long for those who read it. The other three are a block's, and
-- so in the same words.
CREATE OR REPLACE FUNCTION {schema}.guard_added(acquired text, asked text, consumed text, capacity text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    sums text[] := string_to_array(acquired, '"');
    more text[] := string_to_array(asked, '"');
    gone text[] := string_to_array(consumed, '"');
    whole text[] := string_to_array(capacity, '"');
    above numeric;
    below numeric;
    common numeric;
    fitting boolean;
BEGIN
    FOR i IN 4 .. cardinality(sums) BY 4 LOOP
        IF sums[i - 2] = 'kind' THEN
            CONTINUE;
        ELSIF more[i - 2] <> sums[i - 2] THEN
            RETURN NULL;
        ELSIF more[i] !~ '^[0-9]+(/0*[1-9][0-9]*)?$' OR length(more[i]) > 4000 THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an amount is a fraction, at least 0';
        END IF;
        above := {schema}.numerator(sums[i]) * {schema}.denominator(more[i])
            + {schema}.numerator(more[i]) * {schema}.denominator(sums[i]);
        below := {schema}.denominator(sums[i]) * {schema}.denominator(more[i]);
        IF (above * {schema}.denominator(gone[i]) + {schema}.numerator(gone[i]) * below) * {schema}.denominator(whole[i])
            <= {schema}.numerator(whole[i]) * below * {schema}.denominator(gone[i])
        THEN
            fitting := true;
        ELSIF position('"kind": "renyi"' IN capacity) = 0 THEN
            RETURN NULL;
        END IF;
        common := gcd(above, below);
        sums[i] := div(above, common) || CASE below WHEN common THEN '' ELSE '/' || div(below, common) END;
        more[i] := sums[i];
        IF length(more[i]) > 4000 THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN CASE WHEN fitting AND more = sums THEN array_to_string(sums, '"') END;
END $$;

-- An event has the next number, and the hash of the one before it and of its own text: they are filled in, or checked.
CREATE OR REPLACE FUNCTION {schema}.guard_chain() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last integer;
    digest text;
BEGIN
    SELECT sequence, hash INTO last, digest FROM {schema}.audit ORDER BY sequence DESC LIMIT 1;
    last := coalesce(last, 0) + 1;
    digest := encode(sha256(convert_to(coalesce(digest, '') || chr(10) || NEW.event, 'UTF8')), 'hex');
    IF NEW.sequence <> last OR NEW.hash <> digest THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an event continues the hash chain';
    END IF;
    NEW.sequence := last;
    NEW.hash := digest;
    RETURN NEW;
END $$;

-- A block has its layout's capacity, and nothing of it is used; the whole has the ledger's.
CREATE OR REPLACE FUNCTION {schema}.guard_block() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due text;
BEGIN
    IF NEW.layout = '' THEN
        SELECT ledger.capacity INTO due FROM {schema}.ledger WHERE NEW.name = 'whole';
    ELSE
        SELECT layouts.capacity INTO due FROM {schema}.layouts
        WHERE layouts.name = NEW.layout AND starts_with(NEW.name, NEW.layout || '/');
    END IF;
    IF NEW.capacity IS DISTINCT FROM due OR EXISTS (
        SELECT FROM jsonb_each_text(NEW.acquired::jsonb - 'kind') WHERE ({schema}.guard_fraction(value))[1] <> 0
        UNION ALL
        SELECT FROM jsonb_each_text(NEW.consumed::jsonb - 'kind') WHERE ({schema}.guard_fraction(value))[1] <> 0
    ) OR NOT coalesce({schema}.guard_fits(NEW.acquired, NEW.consumed, NEW.capacity), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a block is as its layout says, and unused';
    END IF;
    RETURN NEW;
END $$;

-- Consumed never falls, and no sum passes the capacity. A transaction may say that what it writes as acquired is to be
-- added: where there is no room that changes nothing, and is heard of by the number of rows.
CREATE OR REPLACE FUNCTION {schema}.guard_sums() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('spark_mpc.adds', true) = 'yes' AND NEW.consumed = OLD.consumed THEN
        NEW.acquired := {schema}.guard_added(OLD.acquired, NEW.acquired, OLD.consumed, OLD.capacity);
        IF NEW.acquired IS NULL THEN
            RETURN NULL;
        END IF;
        RETURN NEW;
    ELSIF NEW.acquired = OLD.acquired AND NEW.consumed = OLD.consumed THEN
        RETURN NEW;
    ELSIF NEW.consumed <> OLD.consumed AND NOT coalesce({schema}.guard_at_most(OLD.consumed, NEW.consumed), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'what a block has consumed never falls';
    ELSIF {schema}.guard_fits(NEW.acquired, NEW.consumed, NEW.capacity) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a block gives no more than its capacity';
END $$;

-- What is unlocked is never locked again.
CREATE OR REPLACE FUNCTION {schema}.guard_share() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    share text[];
    before text[];
BEGIN
    IF NEW.unlocked = OLD.unlocked THEN
        RETURN NEW;
    END IF;
    share := regexp_match(NEW.unlocked, '^([0-9]+)(?:/(0*[1-9][0-9]*))?$');
    before := regexp_match(OLD.unlocked, '^([0-9]+)(?:/(0*[1-9][0-9]*))?$');
    IF share IS NULL OR share[1]::numeric > coalesce(share[2], '1')::numeric
        OR share[1]::numeric * coalesce(before[2], '1')::numeric < before[1]::numeric * coalesce(share[2], '1')::numeric
    THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the unlocked share grows, to at most 1';
    END IF;
    RETURN NEW;
END $$;

-- A release belongs to a claim that paid.
CREATE OR REPLACE FUNCTION {schema}.guard_paid() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM {schema}.claims
        WHERE number = NEW.claim AND release_key = NEW.release_key AND state IN ('armed', 'spent')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a release belongs to a claim that paid';
    END IF;
    RETURN NEW;
END $$;

-- Claims are numbered without a gap: the number is filled in, or checked. Whoever owns the ledger may set budget aside; a
-- claim of others begins waiting or reserved. None begins with a vector.
CREATE OR REPLACE FUNCTION {schema}.guard_begin() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last integer;
BEGIN
    SELECT number INTO last FROM {schema}.claims ORDER BY number DESC LIMIT 1;
    last := coalesce(last, 0) + 1;
    IF NEW.number <> last THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim has the next number';
    END IF;
    NEW.number := last;
    IF NEW.state IN ('waiting', 'reserved') AND NEW.noised IS NULL THEN
        RETURN NEW;
    END IF;
    IF NEW.state <> 'spent' OR NEW.noised IS NOT NULL
        OR NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
    THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = 'a claim begins waiting or reserved, without a vector';
    END IF;
    RETURN NEW;
END $$;

-- What a claim on `blocks` holds of each, as an event has it; `held` is as in its row.
CREATE OR REPLACE FUNCTION {schema}.guard_demand(blocks text, held text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    parts text := '';
BEGIN
    IF starts_with(held, '{"each"') THEN
        RETURN held::json -> 'each';
    END IF;
    FOR i IN 0 .. json_array_length(blocks::json) - 1 LOOP
        parts := parts || ', ' || (blocks::json -> i) || ': ' || held;
    END LOOP;
    RETURN '{' || substr(nullif(parts, ''), 3) || '}';
END $$;

-- Whether a claim may be armed: the steward has approved so much for its release key, if it opens something exactly or
-- costs more than goes unasked.
CREATE OR REPLACE FUNCTION {schema}.guard_agreed(claim {schema}.claims)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    unasked text := (SELECT settings::json ->> 'approval_above' FROM {schema}.ledger);
    approved text;
    amounts text;
BEGIN
    IF unasked IS NULL THEN
        RETURN true;
    END IF;
    SELECT price INTO approved FROM {schema}.approvals WHERE release_key = claim.release_key;
    FOR amounts IN
        SELECT value FROM json_each_text({schema}.guard_demand(claim.blocks, coalesce(claim.held, claim.price))::json)
    LOOP
        IF (claim.disclosure <> '' OR NOT coalesce({schema}.guard_at_most(amounts, unasked), false))
            AND NOT coalesce({schema}.guard_at_most(amounts, approved), false)
        THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN FOUND;
END $$;

-- A claim is armed by `armed` alone, which charges its blocks, and once the steward has agreed where that is needed.
CREATE OR REPLACE FUNCTION {schema}.guard_armed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.state = 'armed' OR NEW.state <> 'armed' THEN
        RETURN NEW;
    ELSIF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim is armed by calling arm()';
    ELSIF NOT {schema}.guard_agreed(NEW) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the steward has not approved this';
    END IF;
    RETURN NEW;
END $$;
