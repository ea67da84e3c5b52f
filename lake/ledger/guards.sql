-- Guards that need other rows or exact arithmetic, for PostgreSQL; {schema} is the ledger's. Names mean what they mean
-- in pg_catalog, whatever search path the caller has set. Amounts are JSON of fractions a/b; a/b <= c/d is asked as
-- a d <= c b, in numerics, which are exact.

-- Refuses, in the words that the trigger gives it.
CREATE OR REPLACE FUNCTION {schema}.guard() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = TG_ARGV[0];
END $$;

-- Every amount by its name as numerator and denominator; whatever is not a fraction >= 0 is refused.
CREATE OR REPLACE FUNCTION {schema}.guard_amounts(amounts text)
RETURNS TABLE (name text, above numeric, below numeric) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    value text;
BEGIN
    FOR name, value IN SELECT * FROM jsonb_each_text(amounts::jsonb) WHERE key <> 'kind' LOOP
        IF value IS NULL OR value !~ '^[0-9]+(/0*[1-9][0-9]*)?$' THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an amount is a fraction, at least 0';
        END IF;
        above := split_part(value, '/', 1);
        below := coalesce(nullif(split_part(value, '/', 2), ''), '1');
        RETURN NEXT;
    END LOOP;
END $$;

-- Whether both are of one kind with the same names, and no amount of `one` is above that of `other`.
CREATE OR REPLACE FUNCTION {schema}.guard_at_most(one text, other text)
RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT one::jsonb ->> 'kind' = other::jsonb ->> 'kind'
        AND bool_and(coalesce(a.above * b.below <= b.above * a.below, false))
    FROM {schema}.guard_amounts(one) AS a FULL JOIN {schema}.guard_amounts(other) AS b USING (name)
$$;

-- Whether acquired + consumed lie within the capacity: every amount, or that of one Renyi order.
CREATE OR REPLACE FUNCTION {schema}.guard_fits(acquired text, consumed text, capacity text)
RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT acquired::jsonb ->> 'kind' = capacity::jsonb ->> 'kind'
        AND consumed::jsonb ->> 'kind' = capacity::jsonb ->> 'kind'
        AND bool_and(fits IS NOT NULL)
        AND CASE capacity::jsonb ->> 'kind' WHEN 'renyi' THEN bool_or(fits) ELSE bool_and(fits) END
    FROM (
        SELECT (a.above * c.below + c.above * a.below) * w.below <= w.above * (a.below * c.below) AS fits
        FROM {schema}.guard_amounts(acquired) AS a FULL JOIN {schema}.guard_amounts(consumed) AS c USING (name)
        FULL JOIN {schema}.guard_amounts(capacity) AS w USING (name)
    ) AS every_amount
$$;

-- An event has the next number, and the hash of the one before it and of its own text.
CREATE OR REPLACE FUNCTION {schema}.guard_chain() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head record;
BEGIN
    SELECT sequence, hash INTO head FROM {schema}.audit ORDER BY sequence DESC LIMIT 1;
    IF NEW.sequence IS DISTINCT FROM coalesce(head.sequence, 0) + 1 OR NEW.hash IS DISTINCT FROM
        encode(sha256(convert_to(coalesce(head.hash, '') || chr(10) || NEW.event, 'UTF8')), 'hex')
    THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'an event continues the hash chain';
    END IF;
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
        SELECT FROM {schema}.guard_amounts(NEW.acquired) WHERE above <> 0
        UNION ALL SELECT FROM {schema}.guard_amounts(NEW.consumed) WHERE above <> 0
    ) OR NOT coalesce({schema}.guard_fits(NEW.acquired, NEW.consumed, NEW.capacity), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a block is as its layout says, and unused';
    END IF;
    RETURN NEW;
END $$;

-- Consumed never falls, and no sum passes the capacity.
CREATE OR REPLACE FUNCTION {schema}.guard_sums() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.consumed <> OLD.consumed AND NOT coalesce({schema}.guard_at_most(OLD.consumed, NEW.consumed), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'what a block has consumed never falls';
    END IF;
    IF NOT coalesce({schema}.guard_fits(NEW.acquired, NEW.consumed, NEW.capacity), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a block gives no more than its capacity';
    END IF;
    RETURN NEW;
END $$;

-- What is unlocked is never locked again.
CREATE OR REPLACE FUNCTION {schema}.guard_share() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    share text[] := regexp_match(NEW.unlocked, '^([0-9]+)(?:/(0*[1-9][0-9]*))?$');
    before text[] := regexp_match(OLD.unlocked, '^([0-9]+)(?:/(0*[1-9][0-9]*))?$');
BEGIN
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

-- Claims are numbered without a gap. Whoever owns the ledger may set budget aside; a claim of others begins waiting or
-- reserved.
CREATE OR REPLACE FUNCTION {schema}.guard_begin() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM {schema}.claims) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim has the next number';
    END IF;
    IF NEW.state IN ('waiting', 'reserved') THEN
        RETURN NEW;
    END IF;
    IF NEW.state <> 'spent' OR NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a claim begins waiting or reserved';
    END IF;
    RETURN NEW;
END $$;

-- A claim that opens something exactly, or costs more than goes unasked, is armed once the steward has approved so much
-- for its release key.
CREATE OR REPLACE FUNCTION {schema}.guard_approved() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unasked text := (SELECT settings::jsonb ->> 'approval_above' FROM {schema}.ledger);
    approved text := (SELECT price FROM {schema}.approvals WHERE release_key = NEW.release_key);
    held jsonb := coalesce(NEW.held, NEW.price);
    amounts text;
BEGIN
    FOR amounts IN SELECT value FROM jsonb_each_text(coalesce(held -> 'each', jsonb_build_object('', held))) LOOP
        IF unasked IS NOT NULL
            AND (NEW.disclosure <> '' OR NOT coalesce({schema}.guard_at_most(amounts, unasked), false))
            AND NOT coalesce({schema}.guard_at_most(amounts, approved), false)
        THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the steward has not approved this';
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
